import type {
  Adapter,
  DeclareMode,
  QueueDeclaration,
  SubscriptionDeclaration,
  TopicDeclaration,
  Topology,
} from "../adapter.ts";
import { type Address, describeAddress, type WorkAddress } from "../address.ts";
import type { CapabilityName } from "../capabilities.ts";
import type { Queue, SubscriptionOptions, Topic } from "../destination.ts";
import { isMessagingError, MessagingError } from "../errors.ts";
import { refusal } from "./refusal.ts";

type AnyQueue = Queue<never, unknown>;
type AnyTopic = Topic<never, unknown>;

/**
 * Everything that a broker object was told of: destinations, subscriptions and what they ask of the broker. Finds what
 * contradicts, collides or cannot be had, all of it at once.
 */
export class Declarations {
  readonly #queues = new Map<string, QueueDeclaration>();
  readonly #topics = new Map<string, TopicDeclaration>();
  readonly #subscriptions = new Map<string, SubscriptionDeclaration>();
  readonly #asked: { readonly where: string; readonly capability: CapabilityName }[] = [];

  /** Throws `conflict` if the queue is known with other properties. */
  addQueue(queue: AnyQueue): QueueDeclaration {
    const { name, options } = queue;
    const address = { kind: "queue", name } as const;
    const ttl = options.ttlMs === undefined ? {} : { ttlMs: options.ttlMs };
    const declaration = { address, ordered: options.ordered === true, priorities: options.priorities ?? 1, ...ttl };
    this.#add(this.#queues, name, declaration);
    this.#askOptions(describeAddress(address), options);
    if (declaration.priorities > 1) this.#ask(describeAddress(address), "priority");
    return declaration;
  }

  /** Throws `conflict` if the topic is known with other properties. */
  addTopic(topic: AnyTopic): TopicDeclaration {
    const { name, options } = topic;
    const address = { kind: "topic", name } as const;
    const declaration = { address, ordered: options.ordered === true };
    this.#add(this.#topics, name, declaration);
    this.#askOptions(describeAddress(address), options);
    this.#ask(describeAddress(address), "fanOut");
    return declaration;
  }

  /** Throws `conflict` if the subscription is known with other properties. */
  addSubscription(topic: AnyTopic, name: string, options: SubscriptionOptions): SubscriptionDeclaration {
    const { ordered } = this.addTopic(topic);
    const address = { kind: "subscription", topic: topic.name, name } as const;
    const filter = options.filter === undefined ? {} : { filter: options.filter };
    const ttl = topic.options.ttlMs === undefined ? {} : { ttlMs: topic.options.ttlMs };
    const declaration = { address, ordered, from: options.from ?? "now", ...filter, ...ttl };
    this.#add(this.#subscriptions, `${topic.name} ${name}`, declaration);
    const where = describeAddress(address);
    if (options.filter !== undefined && options.filter !== "#") this.#ask(where, "routingFilter");
    if (declaration.from !== "now") this.#ask(where, "replay");
    return declaration;
  }

  #askOptions(
    where: string,
    options: { readonly durable?: boolean; readonly ordered?: boolean; ttlMs?: number },
  ): void {
    if (options.ordered) this.#ask(where, "order");
    if (options.durable) this.#ask(where, "durable");
    if (options.ttlMs !== undefined) this.#ask(where, "ttl");
  }

  #ask(where: string, capability: CapabilityName): void {
    if (!this.#asked.some((other) => other.where === where && other.capability === capability)) {
      this.#asked.push({ where, capability });
    }
  }

  #add<Declaration extends { readonly address: Address }>(
    known: Map<string, Declaration>,
    name: string,
    declaration: Declaration,
  ): void {
    const before = known.get(name);
    if (before === undefined) known.set(name, declaration);
    else if (JSON.stringify(before) !== JSON.stringify(declaration)) {
      throw new MessagingError(
        "conflict",
        `${describeAddress(declaration.address)} is declared twice with different options: ${JSON.stringify(withoutAddress(before))} and ${JSON.stringify(withoutAddress(declaration))}. Declare it once, and share it`,
      );
    }
  }

  topology(mode: DeclareMode): Topology {
    return {
      mode,
      queues: [...this.#queues.values()],
      topics: [...this.#topics.values()],
      subscriptions: [...this.#subscriptions.values()],
    };
  }

  /** Everything that keeps this adapter from carrying what was declared and required. */
  problems(adapter: Adapter, required: readonly CapabilityName[]): readonly MessagingError[] {
    const asked = [...required.map((capability) => ({ where: "the option `require`", capability })), ...this.#asked];
    const problems = asked.flatMap(({ where, capability }) => refusal(where, adapter, capability) ?? []);
    return [...problems, ...this.#tooManyPriorities(adapter), ...this.#collisions(adapter)];
  }

  #tooManyPriorities(adapter: Adapter): readonly MessagingError[] {
    const { levels, support } = adapter.capabilities.priority;
    if (support === "unsupported") return [];
    const over = [...this.#queues.values()].filter(({ priorities }) => priorities > levels);
    return over.map(({ address, priorities }) => {
      const what = `${describeAddress(address)} asks for ${priorities} priorities, and ${adapter.name} has ${levels}`;
      return new MessagingError("unsupported", `${what}. Declare fewer`);
    });
  }

  #collisions(adapter: Adapter): readonly MessagingError[] {
    const problems: MessagingError[] = [];
    const owners = new Map<string, Address>();
    for (const address of this.#addresses()) {
      let name: string;
      try {
        name = adapter.physicalName(address);
      } catch (error) {
        if (!isMessagingError(error)) throw error;
        problems.push(error);
        continue;
      }
      const owner = owners.get(name);
      if (owner === undefined) owners.set(name, address);
      else if (!isDerived(address) || !isDerived(owner)) {
        problems.push(
          new MessagingError(
            "conflict",
            `${describeAddress(owner)} and ${describeAddress(address)} would both be the ${name} on ${adapter.name}. Rename one of them`,
          ),
        );
      }
    }
    return problems;
  }

  *#addresses(): Iterable<Address> {
    for (const { address } of this.#topics.values()) yield address;
    for (const { address } of [...this.#queues.values(), ...this.#subscriptions.values()]) {
      yield address;
      const of: WorkAddress = address;
      yield { kind: "dead-letters", of };
      yield { kind: "quarantine", of };
    }
  }
}

/** Whether it follows from another address, whose collision says it all. */
function isDerived(address: Address): boolean {
  return address.kind === "dead-letters" || address.kind === "quarantine";
}

function withoutAddress(declaration: { readonly address: Address }): object {
  const { address: _, ...rest } = declaration;
  return rest;
}
