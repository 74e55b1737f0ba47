import type { OutgoingMessage, SendReport, SendResult } from "../../../core/adapter.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { queue } from "../../../core/destination.ts";
import { MessagingError } from "../../../core/errors.ts";
import { createRelay, type Relay } from "../../../patterns/outbox/relay.ts";
import type { RelayEvent, RelayOptions } from "../../../patterns/outbox/relay-options.ts";
import type { NewOutboxRow, OutboxStore } from "../../../patterns/outbox/store.ts";
import { RecordingAdapter } from "../../core/recording-adapter.ts";
import { Prng } from "../../simulation/prng.ts";
import { ProcessClock, VirtualTime } from "../../simulation/virtual-time.ts";
import { FakeOutbox } from "./relay-store.ts";

/** The steps of a relay between which it may die. */
export type Step = "claim" | "claimed" | "publish" | "confirm" | "mark" | "marked";

/** A message as the broker has it. */
export interface Stored {
  readonly id: string;
  readonly key: string | undefined;
  readonly by: string;
  readonly at: number;
}

/** What the store or the broker does with a call: as asked, fails before it, or does it and the answer is lost. */
export type Fault = "none" | "before" | "after" | "refused";

/** So many ids. */
export function numbered(prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, n) => `${prefix}${n}`);
}

/** What became of the rows so far, by position. */
export function states(outbox: FakeOutbox): string[] {
  return outbox.rows.map(({ state }) => state);
}

/** A row for a test. */
export function newRow(id: string, more: Partial<NewOutboxRow> = {}): NewOutboxRow {
  return {
    id,
    to: { kind: "queue", name: "orders" },
    key: undefined,
    routingKey: undefined,
    headers: Object.assign(Object.create(null), { trace: "t" }),
    body: Buffer.from("{}"),
    contentType: "application/json",
    priority: 0,
    delayMs: 0,
    expiresAt: undefined,
    ordered: more.key !== undefined,
    discardUnroutable: false,
    ...more,
  };
}

/** One database, one broker, and relays on them in virtual time. */
export class RelayWorld {
  readonly time = new VirtualTime();
  readonly clock = new ProcessClock(this.time);
  readonly random: Prng;
  readonly outbox = new FakeOutbox(this.clock);
  readonly stored: Stored[] = [];
  readonly messages: OutgoingMessage[] = [];
  /** What becomes of a message at the broker. */
  judge: (message: OutgoingMessage) => Fault | MessagingError = () => "none";
  /** What becomes of a call to the database. */
  judgeCall: (call: string) => Fault | "silent" = () => "none";
  /** Milliseconds that each way to the database or the broker takes. */
  latencyMs: () => number = () => 1;
  /** How long a send may take, in milliseconds. */
  publishMs = 30_000;
  /** Called at each step of each relay. */
  step: (process: RelayProcess, step: Step) => void = () => {};

  constructor(seed = "relay") {
    this.random = new Prng(seed);
  }

  insert(...rows: NewOutboxRow[]): void {
    this.outbox.insert(undefined, rows);
  }

  async until(condition: () => boolean, withinMs = 3_600_000): Promise<boolean> {
    return this.time.until(condition, this.time.now + withinMs);
  }

  async pass(ms: number): Promise<void> {
    let over = false;
    this.clock.schedule(() => {
      over = true;
    }, ms);
    await this.until(() => over, ms + 1);
  }

  async finish<T>(promise: Promise<T>): Promise<T> {
    let over = false;
    const end = (): void => {
      over = true;
    };
    promise.then(end, end);
    if (!(await this.until(() => over))) throw new Error("not within an hour");
    return promise;
  }

  /** A process with a relay, started. */
  async relay(name: string, options: Partial<RelayOptions> = {}): Promise<RelayProcess> {
    const process = new RelayProcess(this, name, options);
    await this.finish(process.broker.start());
    await process.relay.start();
    return process;
  }

  get ids(): string[] {
    return this.stored.map(({ id }) => id);
  }
}

/** A process that can be killed: from then on nothing of it is heard, and nothing reaches it. */
export class RelayProcess {
  readonly name: string;
  readonly events: RelayEvent[] = [];
  readonly clock: ProcessClock;
  readonly adapter = new RecordingAdapter({ maxBatchMessages: 20, maxBatchBytes: 100_000, maxBatchesInFlight: 3 });
  readonly broker;
  readonly relay: Relay;
  dead = false;
  readonly #world: RelayWorld;

  constructor(world: RelayWorld, name: string, options: Partial<RelayOptions>) {
    this.#world = world;
    this.name = name;
    this.clock = new ProcessClock(world.time);
    this.adapter.send = (_to, batch, report) => this.#send(batch, report);
    this.broker = createBroker(this.adapter, {
      clock: this.clock,
      random: world.random.fork(name),
      publish: { timeoutMs: world.publishMs },
      destinations: [queue("orders", { ordered: true })],
    });
    this.relay = createRelay({
      store: this.#store(),
      broker: this.broker,
      name,
      onEvent: (event) => this.events.push(event),
      ...options,
    });
  }

  kill(): void {
    this.dead = true;
    this.clock.kill();
  }

  types(): string[] {
    return this.events.map(({ type }) => type);
  }

  #later(run: () => void): void {
    this.#world.clock.schedule(run, this.#world.latencyMs());
  }

  #send(batch: readonly OutgoingMessage[], report: SendReport): void {
    const { stored, messages, time } = this.#world;
    for (const [index, message] of batch.entries()) {
      this.#world.step(this, "publish");
      if (this.dead) return;
      const fault = this.#world.judge(message);
      this.#later(() => {
        if (fault === "none" || fault === "after") {
          stored.push({ id: message.id, key: message.key, by: this.name, at: time.now });
          messages.push(message);
        }
        this.#later(() => {
          if (this.dead) return;
          report(index, resultOf(fault));
          this.#world.step(this, "confirm");
        });
      });
    }
  }

  #store(): OutboxStore {
    const { outbox } = this.#world;
    const call = async <T>(name: string, action: () => Promise<T>): Promise<T> => {
      const fault = this.#world.judgeCall(name);
      await this.#way();
      if (fault === "before") throw new MessagingError("unreachable", "the database is down");
      const answer = await action();
      await this.#way();
      if (fault === "silent") return new Promise<never>(() => {});
      if (fault !== "none") throw new MessagingError("unreachable", "the answer was lost");
      return answer;
    };
    return {
      name: outbox.name,
      insert: () => {},
      claim: async (request) => {
        this.#world.step(this, "claim");
        const claim = await call("claim", () => outbox.claim(request));
        this.#world.step(this, "claimed");
        await this.#way();
        return claim;
      },
      renew: (token, leaseMs) => call("renew", () => outbox.renew(token, leaseMs)),
      settle: async (token, settlements) => {
        this.#world.step(this, "mark");
        await this.#way();
        const unchanged = await call("settle", () => outbox.settle(token, settlements));
        this.#world.step(this, "marked");
        return unchanged;
      },
      listQuarantined: () => outbox.listQuarantined(),
      retryQuarantined: (positions) => outbox.retryQuarantined(positions),
      discardQuarantined: () => outbox.discardQuarantined(),
      clean: (limit) => call("clean", () => outbox.clean(limit)),
      health: () => call("health", () => outbox.health()),
      listen: (wake) => outbox.listen(() => this.dead || wake()),
    };
  }

  /** Never resolves for a dead one. */
  #way(): Promise<void> {
    return new Promise((resolve) => this.#later(() => this.dead || resolve()));
  }
}

function resultOf(fault: Fault | MessagingError): SendResult {
  if (fault instanceof MessagingError) return { status: "rejected", error: fault };
  if (fault === "none") return { status: "confirmed" };
  if (fault === "refused") return { status: "rejected", error: new MessagingError("refused", "refused by the test") };
  return { status: "unknown", cause: "the connection broke" };
}
