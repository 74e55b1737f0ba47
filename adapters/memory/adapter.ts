import type {
  Adapter,
  DeliverySink,
  Depth,
  IncomingMessage,
  OutgoingMessage,
  QuarantineLog,
  ReceiveOptions,
  Receiver,
  SendLimits,
  SendReport,
  SendResult,
  Topology,
  Watcher,
} from "../../core/adapter.ts";
import {
  type Address,
  addressName,
  type DeadLettersAddress,
  describeAddress,
  type QueueAddress,
  type Source,
  type TopicAddress,
  type WorkAddress,
} from "../../core/address.ts";
import type { Capabilities } from "../../core/capabilities.ts";
import type { Clock } from "../../core/clock.ts";
import { Deadlines } from "../../core/deadlines.ts";
import { MessagingError } from "../../core/errors.ts";
import { memoryCapabilities } from "./capabilities.ts";
import { incoming, MemoryReceiver } from "./queue.ts";
import { type MemorySpace, spaceName } from "./space.ts";

const BROWSE_BATCH = 256;
/** The most messages that wait for one watcher; it misses later ones. */
const MAX_WAITING = 10_000;
const CONFIRMED: SendResult = Object.freeze({ status: "confirmed" });

/** The in-process adapter. It confirms at once; everything else is as on a real broker. */
export class MemoryAdapter implements Adapter<undefined> {
  readonly name = "memory";
  readonly capabilities: Capabilities;
  readonly sendLimits: SendLimits = {
    maxBatchMessages: 1_000,
    maxBatchBytes: 16 * 1024 * 1024,
    maxBatchesInFlight: 1_000,
    storesInOrder: true,
  };
  /** The storage of its messages. */
  readonly space: MemorySpace;
  readonly #leaseMs: number | undefined;
  readonly #leases: Deadlines;
  readonly #receivers = new Set<MemoryReceiver>();
  #open = false;

  constructor(space: MemorySpace, leaseMs: number | undefined, clock: Clock) {
    this.space = space;
    this.capabilities = memoryCapabilities(leaseMs);
    this.#leaseMs = leaseMs;
    this.#leases = new Deadlines(clock);
  }

  physicalName(address: Address): string {
    return spaceName(address);
  }

  async open(): Promise<void> {
    if (this.#open) {
      throw new MessagingError("invalid", "this memory adapter is already open; create one adapter for each broker");
    }
    this.#open = true;
    this.space.opened();
  }

  async declare(topology: Topology): Promise<readonly MessagingError[]> {
    const { mode, queues, topics, subscriptions } = topology;
    if (mode === "none") return [];
    if (mode === "verify") {
      const missing = [...queues, ...topics, ...subscriptions].filter(({ address }) => !this.space.has(address));
      return missing.map(({ address }) => notFound(address));
    }
    for (const { address } of queues) this.space.declareQueue(address);
    for (const { address } of topics) this.space.declareTopic(address.name);
    for (const subscription of subscriptions) this.space.declareSubscription(subscription);
    return [];
  }

  send(to: Address, batch: readonly OutgoingMessage[], report: SendReport): void {
    batch.forEach((message, index) => {
      if (!this.#open) report(index, { status: "unknown", cause: closed(), unsent: true });
      else if (to.kind === "topic") this.space.publish(to.name, () => this.#publish(to, message, index, report));
      else this.#send(to, message, index, report);
    });
  }

  #send(to: Address, message: OutgoingMessage, index: number, report: SendReport): void {
    const queue = this.space.queue(to);
    if (queue === undefined) report(index, { status: "rejected", error: notFound(to) });
    else {
      this.space.notifyWatchers(to, message);
      queue.offer(message, index, report);
    }
  }

  /** Returns whether it is done. While a subscription is full, no subscription gets the message. */
  #publish(to: Address & { kind: "topic" }, message: OutgoingMessage, index: number, report: SendReport): boolean {
    const queues = this.space.subscribers(to.name, message.routingKey);
    if (queues === undefined) {
      report(index, { status: "rejected", error: notFound(to) });
      return true;
    }
    if (queues.length === 0) {
      const what = `no subscription of topic "${to.name}" takes the message with the routing key "${message.routingKey ?? ""}"`;
      const next = `declare one, or allow it with whenUnroutable: "discard"`;
      report(index, { status: "rejected", error: new MessagingError("unroutable", `${what}; ${next}`) });
      return true;
    }
    if (queues.some((queue) => queue.isFull)) return false;
    for (const queue of queues) queue.put(message);
    this.space.notifyWatchers(to, message);
    report(index, CONFIRMED);
    return true;
  }

  #requireOpen(): void {
    if (!this.#open) throw closed();
  }

  async receive(from: Source, options: ReceiveOptions, sink: DeliverySink<undefined>): Promise<Receiver> {
    this.#requireOpen();
    const queue = this.space.queue(from);
    if (queue === undefined) throw notFound(from);
    const deadLetters = from.kind === "dead-letters" ? undefined : this.space.queue({ kind: "dead-letters", of: from });
    const receiver = new MemoryReceiver(queue, sink, options, this.#leaseMs, this.#leases, deadLetters, (closed) =>
      this.#receivers.delete(closed),
    );
    this.#receivers.add(receiver);
    queue.attach(receiver);
    return receiver;
  }

  async *browse(of: DeadLettersAddress): AsyncGenerator<readonly IncomingMessage<undefined>[], void, undefined> {
    this.#requireOpen();
    const queue = this.space.queue(of);
    if (queue === undefined) throw notFound(of);
    const stored = queue.browse();
    for (let from = 0; from < stored.length; from += BROWSE_BATCH) {
      yield stored.slice(from, from + BROWSE_BATCH).map((message) => incoming(message, undefined));
    }
  }

  quarantine(of: WorkAddress): QuarantineLog {
    return {
      append: async (record) => void this.#quarantine(of, record),
      read: async () => this.#quarantine(of),
    };
  }

  #quarantine(of: WorkAddress, added?: string): readonly string[] {
    this.#requireOpen();
    return this.space.quarantine(of, added);
  }

  async depth(of: Address): Promise<Depth> {
    this.#requireOpen();
    const queue = this.space.queue(of);
    // A topic stores no messages.
    if (queue === undefined && of.kind === "topic" && this.space.has(of))
      return { ready: 0, unsettled: 0, exact: true };
    if (queue === undefined) throw notFound(of);
    return { ready: queue.ready, unsettled: queue.unsettled, exact: true };
  }

  async list(): Promise<readonly (WorkAddress | TopicAddress)[]> {
    this.#requireOpen();
    return this.space.list();
  }

  async identities(): Promise<readonly unknown[]> {
    return [this.space];
  }

  async watch(of: QueueAddress | TopicAddress, watcher: Watcher<undefined>): Promise<() => Promise<void>> {
    this.#requireOpen();
    if (!this.space.has(of)) throw notFound(of);
    let last: Promise<void> = Promise.resolve();
    let waiting = 0;
    const end = this.space.watch(of, (message) => {
      if (waiting >= MAX_WAITING) return;
      waiting++;
      last = last
        .then(() => watcher.seen([incoming({ message, redeliveries: 0 }, undefined)]))
        .then(() => void waiting--);
    });
    return async () => {
      end();
      await last;
    };
  }

  async close(): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    await Promise.all([...this.#receivers].map((receiver) => receiver.close()));
    this.#receivers.clear();
    this.#leases.clear();
    this.space.closed();
  }
}

function closed(): MessagingError {
  return new MessagingError("closed", "the memory adapter is not open; start the broker first");
}

function notFound(address: Address): MessagingError {
  return new MessagingError(
    "not-found",
    `there is no ${describeAddress(address)} (${addressName(address)}) in this process; declare it with createBroker(adapter, { destinations: […] }), or consume from it`,
  );
}
