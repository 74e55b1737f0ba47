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

/** A message stored on a queue. */
interface StoredMessage {
  readonly message: OutgoingMessage;
  /** The position in the queue, kept over redeliveries. */
  readonly sequence: number;
  redeliveries: number;
}

/** The messages of one priority. Requeued messages get their old position back. */
class PriorityQueue {
  readonly #new = new Fifo<StoredMessage>();
  /** In order. Every message here is older than every message in `#new`. */
  readonly #requeued = new Fifo<StoredMessage>();

  push(message: StoredMessage): void {
    this.#new.push(message);
  }

  shift(): StoredMessage | undefined {
    return this.#requeued.shift() ?? this.#new.shift();
  }

  putBack(message: StoredMessage): void {
    this.#requeued.insert(message, (other) => other.sequence < message.sequence);
  }

  *[Symbol.iterator](): Iterator<StoredMessage> {
    yield* this.#requeued;
    yield* this.#new;
  }
}

interface Delayed {
  readonly message: OutgoingMessage;
  readonly due: number;
  readonly order: number;
}

/** A binary heap, soonest first; messages due at the same time keep their order. */
class DelayedMessages {
  readonly #heap: Delayed[] = [];
  #order = 0;

  get size(): number {
    return this.#heap.length;
  }

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

/** The messages of one queue: ready ones by priority and age, and delayed ones. */
class MessageStore {
  readonly #clock: Clock;
  readonly #queues: PriorityQueue[] = [];
  readonly #onReady: () => void;
  readonly #delayed = new DelayedMessages();
  #timer: Timer | undefined;
  #awake = false;
  #sequence = 0;
  #size = 0;

  /** `onReady` is called when delays have ended. */
  constructor(clock: Clock, onReady: () => void) {
    this.#clock = clock;
    this.#onReady = onReady;
  }

  /** The number of ready messages. */
  get size(): number {
    return this.#size;
  }

  /** The number of ready and delayed messages. */
  get total(): number {
    return this.#size + this.#delayed.size;
  }

  add(message: OutgoingMessage): void {
    // A retry without a delay takes a timer too: a handler that always requeues must not block the event loop.
    if (message.delayMs === 0 && message.headers[HEADER.attempts] === undefined) {
      this.#push(message);
      return;
    }
    const soonest = this.#delayed.peek();
    const due = this.#clock.monotonic() + message.delayMs;
    this.#delayed.add(message, due);
    if (soonest === undefined || due < soonest.due) this.#arm();
  }

  /** Starts the timer for delayed messages. It keeps the process alive until `sleep`. */
  wake(): void {
    this.#awake = true;
    this.#arm();
  }

  sleep(): void {
    this.#awake = false;
    this.#disarm();
  }

  take(): StoredMessage | undefined {
    for (let priority = this.#queues.length - 1; priority >= 0; priority--) {
      const message = this.#queues[priority]?.shift();
      if (message === undefined) continue;
      this.#size--;
      return message;
    }
    return undefined;
  }

  /** All ready messages. */
  ready(): StoredMessage[] {
    return this.#queues.toReversed().flatMap((queue) => [...queue]);
  }

  putBack(stored: StoredMessage): void {
    this.#queueOf(stored.message.priority).putBack(stored);
    this.#size++;
  }

  #push(message: OutgoingMessage): void {
    const stored = { message, sequence: this.#sequence++, redeliveries: 0 };
    this.#queueOf(message.priority).push(stored);
    this.#size++;
  }

  #queueOf(priority: number): PriorityQueue {
    // Foreign messages may have any number here. As on RabbitMQ, numbers above the highest level count as the highest.
    const level = Math.max(0, Math.min(Math.trunc(priority) || 0, PRIORITY_LEVELS - 1));
    for (let next = this.#queues.length; next <= level; next++) this.#queues.push(new PriorityQueue());
    return this.#queues[level] as PriorityQueue;
  }

  #arm(): void {
    this.#disarm();
    const soonest = this.#delayed.peek();
    if (!this.#awake || soonest === undefined) return;
    this.#timer = this.#clock.schedule(() => this.#releaseDue(), Math.max(soonest.due - this.#clock.monotonic(), 0));
  }

  #disarm(): void {
    if (this.#timer !== undefined) this.#clock.cancel(this.#timer);
    this.#timer = undefined;
  }

  #releaseDue(): void {
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

/** One queue, with the receivers that compete for it. */
export class MemoryQueue {
  readonly #store: MessageStore;
  readonly #turn: EventLoopTurn;
  readonly #maxMessages: number;
  readonly #onRoom: () => void;
  readonly #receivers: MemoryReceiver[] = [];
  #waiting: WaitingSend[] = [];
  #unsettled = 0;
  #next = 0;
  #scheduled = false;

  /** `onRoom` is called when there may be room again. */
  constructor(clock: Clock, maxMessages: number, onRoom: () => void) {
    this.#onRoom = onRoom;
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

  /** Stores a message and confirms it. While the queue is full, both wait for room. */
  offer(message: OutgoingMessage, index: number, report: SendReport): void {
    // If the copies of a consumer waited for room, the consumer could not settle and make room.
    const copy = (message.headers[HEADER.attempts] ?? message.headers[HEADER.dueAt]) !== undefined;
    if (!copy && this.isFull) {
      this.#waiting.push({ message, index, report });
      return;
    }
    this.put(message);
    report(index, CONFIRMED);
  }

  /** Stores a message, even if the queue is full. */
  put(message: OutgoingMessage): void {
    this.#store.add(message);
    this.schedule();
  }

  /** All messages except delayed ones, oldest first, including unsettled ones. */
  browse(): readonly StoredMessage[] {
    const inFlight = this.#receivers.flatMap((receiver) => [...receiver.inFlight()]);
    return [...this.#store.ready(), ...inFlight].sort((one, other) => one.sequence - other.sequence);
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

  /** A delivery was acked or dead-lettered. */
  settled(): void {
    this.#unsettled--;
    if (this.#waiting.length > 0 && !this.isFull) this.#admit();
    this.#onRoom();
  }

  /** A delivery was requeued; it gets its old position back. */
  requeued(stored: StoredMessage): void {
    this.#unsettled--;
    this.#store.putBack(stored);
    this.schedule();
  }

  /** Delivers ready messages at the end of the current turn of the event loop. */
  schedule(): void {
    if (this.#scheduled || this.#receivers.length === 0) return;
    this.#scheduled = true;
    this.#turn.after(() => {
      this.#scheduled = false;
      this.#deliver();
    });
  }

  get isFull(): boolean {
    return this.#store.total + this.#unsettled >= this.#maxMessages;
  }

  #admit(): void {
    const waiting = this.#waiting;
    let admitted = 0;
    while (admitted < waiting.length && !this.isFull) {
      const { message, index, report } = waiting[admitted++] as WaitingSend;
      this.#store.add(message);
      report(index, CONFIRMED);
    }
    this.#waiting = waiting.slice(admitted);
    this.schedule();
  }

  #deliver(): void {
    // An ordered queue has one active receiver, like RabbitMQ's single active consumer.
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

/** One delivery: the adapter's token, and its lease if it has one. */
class MemoryDelivery implements Expiring {
  deadline: Deadline | undefined = undefined;
  readonly stored: StoredMessage;
  readonly #expire: (delivery: MemoryDelivery) => void;

  constructor(stored: StoredMessage, expire: (delivery: MemoryDelivery) => void) {
    this.stored = stored;
    this.#expire = expire;
  }

  expire(): void {
    this.#expire(this);
  }
}

/** One consumer of a queue. */
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
  /** Messages that were not wanted. They stay here until this receiver closes. */
  readonly #skipped: StoredMessage[] = [];
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

  /** How many more deliveries fit into the prefetch. */
  get room(): number {
    return this.#closed ? 0 : Math.max(this.#prefetch - this.#unsettled.size, 0);
  }

  deliver(batch: readonly StoredMessage[]): void {
    const wanted = batch.filter((stored) => {
      if (this.#wanted?.(incoming(stored, undefined)) !== false) return true;
      this.#skipped.push(stored);
      return false;
    });
    if (wanted.length > 0) this.#sink.deliver(wanted.map((stored) => this.#track(stored)));
  }

  #track(stored: StoredMessage): IncomingMessage<undefined> {
    const token = new MemoryDelivery(stored, (delivery) => this.#expire(delivery));
    this.#unsettled.add(token);
    if (this.leaseMs !== undefined) this.#leases.set(token, this.leaseMs);
    return incoming(stored, token);
  }

  /** All messages that it has not settled. */
  *inFlight(): Iterable<StoredMessage> {
    yield* this.#skipped;
    for (const { stored } of this.#unsettled) yield stored;
  }

  #expire(delivery: MemoryDelivery): void {
    this.#requeue(delivery, true);
    this.#sink.lost([delivery], new MessagingError("timeout", `the lease of ${this.leaseMs} ms expired`));
  }

  #requeue(delivery: MemoryDelivery, counted: boolean): void {
    this.#unsettled.delete(delivery);
    this.#leases.lift(delivery);
    if (counted) delivery.stored.redeliveries++;
    this.#queue.requeued(delivery.stored);
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
    this.#queue.settled();
    this.#queue.schedule();
  }

  async settle(batch: readonly Settlement[]): Promise<readonly SettleResult[]> {
    return batch.map(({ token, action }) => {
      const delivery = token as MemoryDelivery;
      if (!this.#unsettled.has(delivery)) return "fenced";
      if (action === "requeue") this.#requeue(delivery, false);
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
    for (const delivery of this.#unsettled) this.#requeue(delivery, true);
    for (const stored of this.#skipped.splice(0)) this.#queue.requeued(stored);
    this.#onClosed(this);
  }
}

/** Converts a stored message to the adapter contract. */
export function incoming(
  { message, redeliveries }: Pick<StoredMessage, "message" | "redeliveries">,
  token: DeliveryToken,
): IncomingMessage<undefined> {
  const { id, key, routingKey, body, contentType, priority } = message;
  // The engine made these headers, without a prototype, and does not change them.
  const { headers } = message;
  return { token, id, key, routingKey, headers, body, contentType, priority, redeliveries, native: undefined };
}
