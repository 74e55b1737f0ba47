import { afterCurrentTurn } from "../../core/clock.ts";
import { type Clock, HEADER, type OutgoingMessage, type SendReport, type SendResult } from "../../core/index.ts";
import type { MemoryReceiver } from "./memory-receiver.ts";
import { MessageStore, type StoredMessage } from "./message-store.ts";

const CONFIRMED: SendResult = Object.freeze({ status: "confirmed" });

interface WaitingSend {
  readonly message: OutgoingMessage;
  readonly index: number;
  readonly report: SendReport;
}

/** A queue of the process, with the receivers that compete for it. */
export class MemoryQueue {
  readonly #store: MessageStore;
  readonly #maxMessages: number;
  readonly #receivers: MemoryReceiver[] = [];
  #waiting: WaitingSend[] = [];
  #unsettled = 0;
  #next = 0;
  #scheduled = false;

  constructor(clock: Clock, maxMessages: number) {
    this.#store = new MessageStore(clock, () => this.schedule());
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
    afterCurrentTurn(() => {
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
