import type { Adapter, Topology } from "./adapter.ts";
import { addressName, type TopicAddress, type WorkAddress } from "./address.ts";
import { checkName } from "./checks.ts";
import { MessagingError } from "./errors.ts";

/** The state of an adapter from `open` to `close`. */
interface AdapterSession extends Pick<Adapter, "send" | "close"> {
  open(): Promise<void>;
}

/** Keeps the session of an adapter between `open` and `close`, and refuses calls at other times. */
export class CurrentSession<Session extends AdapterSession> {
  readonly #broker: string;
  #session: Session | undefined;

  /** `broker` is the name for people: `RabbitMQ`. */
  constructor(broker: string) {
    this.#broker = broker;
  }

  /** Undefined while the adapter is not open. */
  get current(): Session | undefined {
    return this.#session;
  }

  /** Rejects with `invalid` if a session is open. Rejects as the session's `open` does, and keeps no session then. */
  async open(make: () => Session): Promise<void> {
    if (this.#session !== undefined) {
      throw new MessagingError("invalid", `the ${this.#broker} adapter is open already`);
    }
    const session = make();
    this.#session = session;
    try {
      await session.open();
    } catch (error) {
      if (this.#session === session) this.#session = undefined;
      throw error;
    }
  }

  /** Rejects with `closed` while the adapter is not open. */
  async use<Result>(use: (session: Session) => Promise<Result>): Promise<Result> {
    if (this.#session === undefined) throw this.#notOpen();
    return await use(this.#session);
  }

  /** Reports everything `unknown` while the adapter is not open. */
  send(...[to, batch, report]: Parameters<Adapter["send"]>): void {
    if (this.#session !== undefined) {
      this.#session.send(to, batch, report);
      return;
    }
    const cause = this.#notOpen();
    for (let index = 0; index < batch.length; index++) report(index, { status: "unknown", cause, unsent: true });
  }

  /** A second call does nothing. */
  async close(): Promise<void> {
    const session = this.#session;
    this.#session = undefined;
    await session?.close();
  }

  #notOpen(): MessagingError {
    return new MessagingError("closed", `the ${this.#broker} adapter is not open; start the broker first`);
  }
}

/** Unites all topologies that an adapter has declared since `open`, so that it can recover them at once. */
export class DeclaredTopology {
  readonly #queues = new Map<string, Topology["queues"][number]>();
  readonly #topics = new Map<string, Topology["topics"][number]>();
  readonly #subscriptions = new Map<string, Topology["subscriptions"][number]>();

  get isEmpty(): boolean {
    return this.#queues.size + this.#topics.size + this.#subscriptions.size === 0;
  }

  add({ queues, topics, subscriptions }: Topology): void {
    for (const queue of queues) this.#queues.set(addressName(queue.address), queue);
    for (const topic of topics) this.#topics.set(addressName(topic.address), topic);
    for (const subscription of subscriptions) {
      this.#subscriptions.set(addressName(subscription.address), subscription);
    }
  }

  get topology(): Topology {
    return {
      mode: "create",
      queues: [...this.#queues.values()],
      topics: [...this.#topics.values()],
      subscriptions: [...this.#subscriptions.values()],
    };
  }
}

const DEAD_LETTERS_ENDING = addressName({ kind: "dead-letters", of: { kind: "queue", name: "" } });
const BETWEEN = addressName({ kind: "subscription", topic: "", name: "" });

/** Parses the `addressName` of a queue or subscription; undefined for any other name. */
export function parseWorkAddress(name: string): WorkAddress | undefined {
  const [first = "", second, ...more] = name.split(BETWEEN);
  try {
    checkName(second === undefined ? "queue" : "topic", first);
    if (second === undefined) return { kind: "queue", name: first };
    checkName("subscription", second);
    return more.length === 0 ? { kind: "subscription", topic: first, name: second } : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Finds anybroker's queues and subscriptions among the names on a broker, by their dead letters, and the topics of those
 * subscriptions. `mainName` returns the name of a queue or subscription there.
 */
export function addressesAmong(
  names: Iterable<string>,
  mainName: (of: WorkAddress) => string = addressName,
): readonly (WorkAddress | TopicAddress)[] {
  const all = new Set(names);
  const topics = new Set<string>();
  const found: (WorkAddress | TopicAddress)[] = [];
  for (const name of all) {
    if (!name.endsWith(DEAD_LETTERS_ENDING)) continue;
    const of = parseWorkAddress(name.slice(0, -DEAD_LETTERS_ENDING.length));
    if (of === undefined || !all.has(mainName(of))) continue;
    found.push(of);
    if (of.kind === "subscription") topics.add(of.topic);
  }
  return [...found, ...[...topics].map((name): TopicAddress => ({ kind: "topic", name }))];
}
