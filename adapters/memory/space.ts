import { type OutgoingMessage, QUARANTINE_KEPT_MS, type SubscriptionDeclaration } from "../../core/adapter.ts";
import { addressesAmong } from "../../core/adapter-support.ts";
import { type Address, addressName, type TopicAddress, type WorkAddress } from "../../core/address.ts";
import type { Clock } from "../../core/clock.ts";
import { routingMatches } from "../../core/destination.ts";
import { Fifo } from "../../core/fifo.ts";
import { MemoryQueue } from "./queue.ts";

interface QuarantineRecord {
  readonly at: number;
  readonly text: string;
}

interface Binding {
  readonly queue: MemoryQueue;
  readonly filter: string;
}

/**
 * Stores the messages of in-process brokers. Brokers with the same space share queues, topics and subscriptions, as
 * processes share a broker. Messages stay while no broker is open, and are lost with the space.
 */
export class MemorySpace {
  readonly #clock: Clock;
  readonly #maxMessages: number;
  readonly #queues = new Map<string, MemoryQueue>();
  readonly #topics = new Map<string, Map<string, Binding>>();
  /** Publishes that wait for room, by topic. Each returns whether it is done. */
  readonly #waiting = new Map<string, Fifo<() => boolean>>();
  readonly #quarantines = new Map<string, QuarantineRecord[]>();
  readonly #watchers = new Map<string, Set<(message: OutgoingMessage) => void>>();
  #open = 0;

  constructor(clock: Clock, maxMessages: number) {
    this.#clock = clock;
    this.#maxMessages = maxMessages;
  }

  /** An adapter has opened: timers for delays run. */
  opened(): void {
    this.#open++;
    for (const queue of this.#queues.values()) queue.wake();
  }

  /** An adapter has closed. After the last one, no timer keeps the process alive. */
  closed(): void {
    this.#open--;
    if (this.#open === 0) for (const queue of this.#queues.values()) queue.sleep();
  }

  /** Creates a queue and its dead letters. */
  declareQueue(address: Address & { readonly kind: "queue" | "subscription" }): MemoryQueue {
    this.#declare({ kind: "dead-letters", of: address });
    return this.#declare(address);
  }

  declareTopic(name: string): void {
    if (!this.#topics.has(name)) this.#topics.set(name, new Map());
  }

  declareSubscription(declaration: SubscriptionDeclaration): void {
    const { address, filter = "#" } = declaration;
    this.declareTopic(address.topic);
    this.#topics.get(address.topic)?.set(address.name, { queue: this.declareQueue(address), filter });
  }

  /** Returns the quarantine records of the last day, after adding one if given. */
  quarantine(of: WorkAddress, added?: string): readonly string[] {
    const name = spaceName(of);
    const now = this.#clock.monotonic();
    const records = (this.#quarantines.get(name) ?? []).filter(({ at }) => now - at < QUARANTINE_KEPT_MS);
    if (added !== undefined) records.push({ at: now, text: added });
    this.#quarantines.set(name, records);
    return records.map(({ text }) => text);
  }

  /** Calls `onMessage` for each message sent to an address, until the returned function is called. */
  watch(address: Address, onMessage: (message: OutgoingMessage) => void): () => void {
    const name = spaceName(address);
    const watchers = this.#watchers.get(name) ?? new Set();
    this.#watchers.set(name, watchers.add(onMessage));
    return () => {
      watchers.delete(onMessage);
      if (watchers.size === 0) this.#watchers.delete(name);
    };
  }

  /** Passes a message to the watchers of an address. */
  notifyWatchers(address: Address, message: OutgoingMessage): void {
    if (this.#watchers.size === 0) return;
    for (const onMessage of this.#watchers.get(spaceName(address)) ?? []) onMessage(message);
  }

  #declare(address: Address): MemoryQueue {
    const name = spaceName(address);
    let queue = this.#queues.get(name);
    if (queue === undefined) {
      // Dead letters have no limit: they must never be refused.
      queue = new MemoryQueue(
        this.#clock,
        address.kind === "dead-letters" ? Number.POSITIVE_INFINITY : this.#maxMessages,
        this.#admitWaiting,
      );
      if (this.#open > 0) queue.wake();
      this.#queues.set(name, queue);
    }
    return queue;
  }

  has(address: Address): boolean {
    return address.kind === "topic" ? this.#topics.has(address.name) : this.#queues.has(spaceName(address));
  }

  /** Lists queues, subscriptions and topics. */
  list(): readonly (WorkAddress | TopicAddress)[] {
    const prefix = spaceName({ kind: "queue", name: "" });
    const work = addressesAmong([...this.#queues.keys()].map((name) => name.slice(prefix.length)));
    const topics = [...this.#topics.keys()].map((name): TopicAddress => ({ kind: "topic", name }));
    return [...work.filter(({ kind }) => kind !== "topic"), ...topics];
  }

  queue(address: Address): MemoryQueue | undefined {
    return this.#queues.get(spaceName(address));
  }

  /**
   * Calls `publish` until it returns that it is done: again whenever there may be room. Later ones of the topic wait behind
   * it, so that each subscription keeps their order.
   */
  publish(topic: string, publish: () => boolean): void {
    const waiting = this.#waiting.get(topic);
    if (waiting === undefined && publish()) return;
    const behind = waiting ?? new Fifo<() => boolean>();
    behind.push(publish);
    this.#waiting.set(topic, behind);
  }

  #admitWaiting = (): void => {
    for (const [topic, waiting] of this.#waiting) {
      while (waiting.peek()?.()) waiting.shift();
      if (waiting.size === 0) this.#waiting.delete(topic);
    }
  };

  /** The queues of the subscriptions that match a routing key; undefined if the topic does not exist. */
  subscribers(topic: string, routingKey: string | undefined): readonly MemoryQueue[] | undefined {
    const bindings = this.#topics.get(topic);
    if (bindings === undefined) return undefined;
    const queues: MemoryQueue[] = [];
    for (const { queue, filter } of bindings.values()) {
      if (filter === "#" || routingMatches(filter, routingKey)) queues.push(queue);
    }
    return queues;
  }
}

/** The name of an address. A topic and a queue may share a name; a queue and a subscription may not. */
export function spaceName(address: Address): string {
  return `${address.kind === "topic" ? "topic" : "queue"} ${addressName(address)}`;
}
