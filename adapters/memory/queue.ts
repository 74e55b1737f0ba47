import type {
  DeadLetterResult,
  DeliverySink,
  DeliveryToken,
  IncomingMessage,
  OutgoingMessage,
  ReceiveOptions,
  Receiver,
  SendReport,
  SendResult,
  Settlement,
  SettleResult,
} from "../../core/adapter.ts";
import { type Clock, EventLoopTurn, type Timer } from "../../core/clock.ts";
import type { Deadline, Deadlines, Expiring } from "../../core/deadlines.ts";
import { MessagingError } from "../../core/errors.ts";
import { Fifo } from "../../core/fifo.ts";
import { HEADER } from "../../core/system-headers.ts";
import { PRIORITY_LEVELS } from "./capabilities.ts";

/** A message as it stands on a queue of the process. */
interface StoredMessage {
  readonly message: OutgoingMessage;
  /** Place in the queue, kept over redeliveries. */
  readonly sequence: number;
  redeliveries: number;
}

/** The messages of one priority: gives its first quickly, and takes a message back at the place it had. */
class Shelf {
  readonly #fresh = new Fifo<StoredMessage>();
  /** In order. What was taken once stood before everything that was not. */
  readonly #returned = new Fifo<StoredMessage>();

  push(message: StoredMessage): void {
    this.#fresh.push(message);
  }

  shift(): StoredMessage | undefined {
    return this.#returned.shift() ?? this.#fresh.shift();
  }

  putBack(message: StoredMessage): void {
    this.#returned.insert(message, (other) => other.sequence < message.sequence);
  }

  *[Symbol.iterator](): Iterator<StoredMessage> {
    yield* this.#returned;
    yield* this.#fresh;
  }
}

interface Delayed {
  readonly message: OutgoingMessage;
  readonly due: number;
  readonly order: number;
}

/** A binary heap: the soonest first; of equal ones, the one that came first. */
class DelayedMessages {
  readonly #heap: Delayed[] = [];
  #order = 0;

  peek(): Delayed | undefined {
    return this.#heap[0];
  }

  add(message: OutgoingMessage, due: number): void {
    const added = { message, due, order: this.#order++ };
    const heap = this.#heap;
    let at = heap.push(added) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(added, heap[parent] as Delayed)) break;
      heap[at] = heap[parent] as Delayed;
      at = parent;
    }
    heap[at] = added;
  }

  removeFirst(): void {
    const heap = this.#heap;
    const last = heap.pop();
    if (last === undefined || heap.length === 0) return;
    let at = 0;
    for (let child = 1; child < heap.length; child = at * 2 + 1) {
      if (child + 1 < heap.length && isBefore(heap[child + 1] as Delayed, heap[child] as Delayed)) child++;
      if (!isBefore(heap[child] as Delayed, last)) break;
      heap[at] = heap[child] as Delayed;
      at = child;
    }
    heap[at] = last;
  }
}

function isBefore(one: Delayed, other: Delayed): boolean {
  return one.due < other.due || (one.due === other.due && one.order < other.order);
}

/** What stands on one queue: ready, by priority and then by arrival, and delayed. */
class MessageStore {
  readonly #clock: Clock;
  readonly #shelves: Shelf[] = [];
  readonly #onReady: () => void;
  readonly #delayed = new DelayedMessages();
  #timer: Timer | undefined;
  #awake = false;
  #sequence = 0;
  #size = 0;

  /** `onReady` is called when a delay has ended. */
  constructor(clock: Clock, onReady: () => void) {
    this.#clock = clock;
    this.#onReady = onReady;
  }

  /** Messages that could be delivered now. */
  get size(): number {
    return this.#size;
  }

  add(message: OutgoingMessage): void {
    // A copy that comes again at once takes a timer too: a handler that always gives it back must not fill every turn.
    if (message.delayMs === 0 && message.headers[HEADER.attempts] === undefined) {
      this.#push(message);
      return;
    }
    const soonest = this.#delayed.peek();
    const due = this.#clock.monotonic() + message.delayMs;
    this.#delayed.add(message, due);
    if (soonest === undefined || due < soonest.due) this.#arm();
  }

  /** Keeps a timer for what is delayed; while asleep nothing keeps the process alive. */
  wake(): void {
    this.#awake = true;
    this.#arm();
  }

  sleep(): void {
    this.#awake = false;
    this.#disarm();
  }

  take(): StoredMessage | undefined {
    for (let priority = this.#shelves.length - 1; priority >= 0; priority--) {
      const message = this.#shelves[priority]?.shift();
      if (message === undefined) continue;
      this.#size--;
      return message;
    }
    return undefined;
  }

  /** What could be delivered now, as it would be. */
  ready(): StoredMessage[] {
    return this.#shelves.toReversed().flatMap((shelf) => [...shelf]);
  }

  putBack(stored: StoredMessage): void {
    this.#shelf(stored.message.priority).putBack(stored);
    this.#size++;
  }

  #push(message: OutgoingMessage): void {
    const stored = { message, sequence: this.#sequence++, redeliveries: 0 };
    this.#shelf(message.priority).push(stored);
    this.#size++;
  }

  #shelf(priority: number): Shelf {
    // What others wrote may have any number here; as on RabbitMQ, more than the most counts as the most.
    const level = Math.max(0, Math.min(Math.trunc(priority) || 0, PRIORITY_LEVELS - 1));
    for (let next = this.#shelves.length; next <= level; next++) this.#shelves.push(new Shelf());
    return this.#shelves[level] as Shelf;
  }

  #arm(): void {
    this.#disarm();
    const soonest = this.#delayed.peek();
    if (!this.#awake || soonest === undefined) return;
    this.#timer = this.#clock.schedule(() => this.#ripen(), Math.max(soonest.due - this.#clock.monotonic(), 0));
  }

  #disarm(): void {
    if (this.#timer !== undefined) this.#clock.cancel(this.#timer);
    this.#timer = undefined;
  }

  #ripen(): void {
    this.#timer = undefined;
    const now = this.#clock.monotonic();
    for (let next = this.#delayed.peek(); next !== undefined && next.due <= now; next = this.#delayed.peek()) {
      this.#delayed.removeFirst();
      this.#push(next.message);
    }
    this.#arm();
    this.#onReady();
  }
}

const CONFIRMED: SendResult = Object.freeze({ status: "confirmed" });

interface WaitingSend {
  readonly message: OutgoingMessage;
  readonly index: number;
  readonly report: SendReport;
}

/** A queue of the process, with the receivers that compete for it. */
export class MemoryQueue {
  readonly #store: MessageStore;
  readonly #turn: EventLoopTurn;
  readonly #maxMessages: number;
  readonly #receivers: MemoryReceiver[] = [];
  #waiting: WaitingSend[] = [];
  #unsettled = 0;
  #next = 0;
  #scheduled = false;

  constructor(clock: Clock, maxMessages: number) {
    this.#store = new MessageStore(clock, () => this.schedule());
    this.#turn = new EventLoopTurn(clock);
    this.#maxMessages = maxMessages;
  }

  get ready(): number {
    return this.#store.size;
  }

  get unsettled(): number {
    return this.#unsettled;
  }

  wake(): void {
    this.#store.wake();
  }

  sleep(): void {
    this.#store.sleep();
  }

  /** Takes a message and confirms it; while the queue is full, when there is room. */
  offer(message: OutgoingMessage, index: number, report: SendReport): void {
    // Waiting for room with a consumer's own copies would stop those who make the room.
    const copy = message.delayMs > 0 || message.headers[HEADER.attempts] !== undefined;
    if (!copy && this.#full()) {
      this.#waiting.push({ message, index, report });
      return;
    }
    this.put(message);
    report(index, CONFIRMED);
  }

  /** Takes a message whether there is room or not. */
  put(message: OutgoingMessage): void {
    this.#store.add(message);
    this.schedule();
  }

  /** All that stands here at this moment, also in the hands of receivers, in the order of arrival. */
  standing(): readonly StoredMessage[] {
    const held = this.#receivers.flatMap((receiver) => [...receiver.held()]);
    return [...this.#store.ready(), ...held].sort((one, other) => one.sequence - other.sequence);
  }

  attach(receiver: MemoryReceiver): void {
    this.#receivers.push(receiver);
    this.schedule();
  }

  detach(receiver: MemoryReceiver): void {
    const at = this.#receivers.indexOf(receiver);
    if (at >= 0) this.#receivers.splice(at, 1);
    this.schedule();
  }

  /** Settled for good. */
  removed(): void {
    this.#unsettled--;
    if (this.#waiting.length > 0 && !this.#full()) this.#admit();
  }

  /** Given back: at the place it had, before what came later. */
  returned(stored: StoredMessage): void {
    this.#unsettled--;
    this.#store.putBack(stored);
    this.schedule();
  }

  /** Delivers what can be, when the current turn of senders and settlements is over. */
  schedule(): void {
    if (this.#scheduled || this.#receivers.length === 0) return;
    this.#scheduled = true;
    this.#turn.after(() => {
      this.#scheduled = false;
      this.#deliver();
    });
  }

  #full(): boolean {
    return this.#store.size + this.#unsettled >= this.#maxMessages;
  }

  #admit(): void {
    const waiting = this.#waiting;
    let admitted = 0;
    while (admitted < waiting.length && !this.#full()) {
      const { message, index, report } = waiting[admitted++] as WaitingSend;
      this.#store.add(message);
      report(index, CONFIRMED);
    }
    this.#waiting = waiting.slice(admitted);
    this.schedule();
  }

  #deliver(): void {
    // In order, one receiver is active and the others stand by, as with RabbitMQ's single active consumer.
    const single = this.#receivers[0]?.ordered === true;
    const receivers = single ? this.#receivers.slice(0, 1) : this.#receivers;
    while (this.#store.size > 0) {
      const free = receivers.filter((receiver) => receiver.room > 0);
      if (free.length === 0) return;
      const share = Math.ceil(this.#store.size / free.length);
      const receiver = free[this.#next++ % free.length] as MemoryReceiver;
      const batch: StoredMessage[] = [];
      for (let count = Math.min(share, receiver.room); count > 0; count--) {
        const stored = this.#store.take();
        if (stored !== undefined) batch.push(stored);
      }
      this.#unsettled += batch.length;
      receiver.deliver(batch);
    }
  }
}

/** One delivery: the adapter's token for it, and its lease where there are leases. */
class MemoryDelivery implements Expiring {
  deadline: Deadline | undefined = undefined;
  readonly stored: StoredMessage;
  readonly #lapse: (delivery: MemoryDelivery) => void;

  constructor(stored: StoredMessage, lapse: (delivery: MemoryDelivery) => void) {
    this.stored = stored;
    this.#lapse = lapse;
  }

  expire(): void {
    this.#lapse(this);
  }
}

/** One consumer of a queue of the process. */
export class MemoryReceiver implements Receiver {
  readonly leaseMs: number | undefined;
  readonly ordered: boolean;
  readonly deadLetter?: NonNullable<Receiver["deadLetter"]>;
  readonly #queue: MemoryQueue;
  readonly #sink: DeliverySink<undefined>;
  readonly #onClosed: (receiver: MemoryReceiver) => void;
  readonly #leases: Deadlines;
  readonly #wanted: ReceiveOptions["wanted"];
  readonly #unsettled = new Set<MemoryDelivery>();
  /** What was not wanted, until the end. */
  readonly #passedOver: StoredMessage[] = [];
  #prefetch: number;
  #closed = false;

  constructor(
    queue: MemoryQueue,
    sink: DeliverySink<undefined>,
    { prefetch, ordered, wanted }: ReceiveOptions,
    leaseMs: number | undefined,
    leases: Deadlines,
    deadLetters: MemoryQueue | undefined,
    closed: (receiver: MemoryReceiver) => void,
  ) {
    this.#onClosed = closed;
    if (deadLetters !== undefined) {
      this.deadLetter = async (token, letter) => this.#move(token as MemoryDelivery, letter, deadLetters);
    }
    this.#queue = queue;
    this.#sink = sink;
    this.#prefetch = prefetch;
    this.ordered = ordered;
    this.#wanted = wanted;
    this.leaseMs = leaseMs;
    this.#leases = leases;
  }

  /** How many more deliveries it may have. */
  get room(): number {
    return this.#closed ? 0 : Math.max(this.#prefetch - this.#unsettled.size, 0);
  }

  deliver(batch: readonly StoredMessage[]): void {
    const wanted = batch.filter((stored) => {
      if (this.#wanted?.(incoming(stored, undefined)) !== false) return true;
      this.#passedOver.push(stored);
      return false;
    });
    if (wanted.length > 0) this.#sink.deliver(wanted.map((stored) => this.#hold(stored)));
  }

  #hold(stored: StoredMessage): IncomingMessage<undefined> {
    const token = new MemoryDelivery(stored, (delivery) => this.#lapse(delivery));
    this.#unsettled.add(token);
    if (this.leaseMs !== undefined) this.#leases.set(token, this.leaseMs);
    return incoming(stored, token);
  }

  /** What it has, settled by nobody yet. */
  *held(): Iterable<StoredMessage> {
    yield* this.#passedOver;
    for (const { stored } of this.#unsettled) yield stored;
  }

  #lapse(delivery: MemoryDelivery): void {
    this.#giveBack(delivery, true);
    this.#sink.lost([delivery], new MessagingError("timeout", `the lease of ${this.leaseMs} ms ran out`));
  }

  #giveBack(delivery: MemoryDelivery, counted: boolean): void {
    this.#unsettled.delete(delivery);
    this.#leases.lift(delivery);
    if (counted) delivery.stored.redeliveries++;
    this.#queue.returned(delivery.stored);
  }

  prefetch(count: number): void {
    this.#prefetch = count;
    this.#queue.schedule();
  }

  #move(delivery: MemoryDelivery, letter: OutgoingMessage, deadLetters: MemoryQueue): DeadLetterResult {
    if (!this.#unsettled.has(delivery)) return { status: "fenced" };
    deadLetters.put(letter);
    this.#remove(delivery);
    return { status: "settled" };
  }

  #remove(delivery: MemoryDelivery): void {
    this.#unsettled.delete(delivery);
    this.#leases.lift(delivery);
    this.#queue.removed();
    this.#queue.schedule();
  }

  async settle(batch: readonly Settlement[]): Promise<readonly SettleResult[]> {
    return batch.map(({ token, action }) => {
      const delivery = token as MemoryDelivery;
      if (!this.#unsettled.has(delivery)) return "fenced";
      if (action === "requeue") this.#giveBack(delivery, false);
      else this.#remove(delivery);
      return "settled";
    });
  }

  async extend(batch: readonly DeliveryToken[]): Promise<readonly boolean[]> {
    return batch.map((token) => {
      const delivery = token as MemoryDelivery;
      if (!this.#unsettled.has(delivery) || this.leaseMs === undefined) return false;
      this.#leases.lift(delivery);
      this.#leases.set(delivery, this.leaseMs);
      return true;
    });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#queue.detach(this);
    for (const delivery of this.#unsettled) this.#giveBack(delivery, true);
    for (const stored of this.#passedOver.splice(0)) this.#queue.returned(stored);
    this.#onClosed(this);
  }
}

/** A message that is only looked at, in the terms of the seam. */
export function shown(message: OutgoingMessage): IncomingMessage<undefined> {
  return incoming({ message, redeliveries: 0 }, undefined);
}

/** A stored message in the terms of the seam. */
export function incoming(
  { message, redeliveries }: Pick<StoredMessage, "message" | "redeliveries">,
  token: DeliveryToken,
): IncomingMessage<undefined> {
  const { id, key, routingKey, body, contentType, priority } = message;
  // The engine made these headers, without a prototype, and changes none.
  const { headers } = message;
  return { token, id, key, routingKey, headers, body, contentType, priority, redeliveries, native: undefined };
}
