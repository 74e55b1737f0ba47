import type {
  Adapter,
  DeclareMode,
  QueueDeclaration,
  SubscriptionDeclaration,
  TopicDeclaration,
  Topology,
} from "./adapter.ts";
import { type Address, describeAddress, type WorkAddress } from "./address.ts";
import type { CapabilityName } from "./capabilities.ts";
import type { Queue, SubscriptionOptions, Topic } from "./destination.ts";
import { isMessagingError, MessagingError } from "./errors.ts";

/** The error for a capability that this adapter lacks; undefined if it has it. */
export function refusal(where: string, adapter: Adapter, capability: CapabilityName): MessagingError | undefined {
  const { support, note } = adapter.capabilities[capability];
  if (support !== "unsupported") return undefined;
  return new MessagingError(
    "unsupported",
    `${where} asks for ${capability}, and ${adapter.name} cannot give it: ${note}`,
  );
}

type AnyQueue = Queue<never, unknown>;
type AnyTopic = Topic<never, unknown>;

interface Added {
  readonly asked: { readonly where: string; readonly capability: CapabilityName }[];
  readonly queues: QueueDeclaration[];
  readonly addresses: Address[];
}

/**
 * The destinations and subscriptions of a broker object, and the capabilities that they ask for. It finds all problems at
 * once: contradictions, colliding names and missing capabilities.
 */
export class Declarations {
  readonly #queues = new Map<string, QueueDeclaration>();
  readonly #topics = new Map<string, TopicDeclaration>();
  readonly #subscriptions = new Map<string, SubscriptionDeclaration>();
  /** Capabilities asked for, with the destination that asks. */
  readonly #asked = new Set<string>();
  /** Added since the last search for problems. */
  #added: Added = { asked: [], queues: [], addresses: [] };
  readonly #found: MessagingError[] = [];
  /** Physical names, with their addresses. */
  readonly #owners = new Map<string, Address>();

  /** Throws `conflict` if the queue is known with other properties. */
  addQueue(queue: AnyQueue): QueueDeclaration {
    const { name, options } = queue;
    const address = { kind: "queue", name } as const;
    const ttl = options.ttlMs === undefined ? {} : { ttlMs: options.ttlMs };
    const declaration = { address, ordered: options.ordered === true, priorities: options.priorities ?? 1, ...ttl };
    if (!this.#queues.has(name)) this.#added.queues.push(declaration);
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
    if (declaration.from !== "now") this.#ask(where, "rewind");
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
    const name = `${capability} ${where}`;
    if (this.#asked.has(name)) return;
    this.#asked.add(name);
    this.#added.asked.push({ where, capability });
  }

  #add<Declaration extends { readonly address: Address }>(
    known: Map<string, Declaration>,
    name: string,
    declaration: Declaration,
  ): void {
    const before = known.get(name);
    if (before === undefined) {
      known.set(name, declaration);
      this.#added.addresses.push(...familyOf(declaration.address));
    } else if (JSON.stringify(before) !== JSON.stringify(declaration)) {
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

  /** The topology of one consumer: its queue, or its subscription with its topic. */
  topologyOf(address: WorkAddress, mode: DeclareMode): Topology {
    if (address.kind === "queue") {
      const queue = this.#queues.get(address.name);
      return { mode, queues: queue === undefined ? [] : [queue], topics: [], subscriptions: [] };
    }
    const topic = this.#topics.get(address.topic);
    const subscription = this.#subscriptions.get(`${address.topic} ${address.name}`);
    return {
      mode,
      queues: [],
      topics: topic === undefined ? [] : [topic],
      subscriptions: subscription === undefined ? [] : [subscription],
    };
  }

  /** All problems of the declared destinations and the required capabilities on this adapter. */
  problems(adapter: Adapter, required: readonly CapabilityName[]): readonly MessagingError[] {
    const refused = required.flatMap((capability) => refusal("the option `require`", adapter, capability) ?? []);
    this.newProblems(adapter);
    return [...refused, ...this.#found];
  }

  /** The problems of destinations added since the last call. The adapter has to be the same at each call. */
  newProblems(adapter: Adapter): readonly MessagingError[] {
    const { asked, queues, addresses } = this.#added;
    this.#added = { asked: [], queues: [], addresses: [] };
    const found = [
      ...asked.flatMap(({ where, capability }) => refusal(where, adapter, capability) ?? []),
      ...tooManyPriorities(adapter, queues),
      ...this.#collisions(adapter, addresses),
    ];
    this.#found.push(...found);
    return found;
  }

  #collisions(adapter: Adapter, addresses: readonly Address[]): readonly MessagingError[] {
    const problems: MessagingError[] = [];
    const owners = this.#owners;
    for (const address of addresses) {
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
}

/** An address with the addresses derived from it. */
function familyOf(address: Address): readonly Address[] {
  if (address.kind !== "queue" && address.kind !== "subscription") return [address];
  const of: WorkAddress = address;
  return [address, { kind: "dead-letters", of }, { kind: "quarantine", of }];
}

function tooManyPriorities(adapter: Adapter, queues: readonly QueueDeclaration[]): readonly MessagingError[] {
  const { levels, support } = adapter.capabilities.priority;
  if (support === "unsupported") return [];
  return queues
    .filter(({ priorities }) => priorities > levels)
    .map(({ address, priorities }) => {
      const what = `${describeAddress(address)} asks for ${priorities} priorities, and ${adapter.name} has ${levels}`;
      return new MessagingError("unsupported", `${what}. Declare fewer`);
    });
}

/** Whether it is derived from another address, whose collision is reported already. */
function isDerived(address: Address): boolean {
  return address.kind === "dead-letters" || address.kind === "quarantine";
}

function withoutAddress(declaration: { readonly address: Address }): object {
  const { address: _, ...rest } = declaration;
  return rest;
}
