import type { Receipt } from "../../core/broker.ts";
import type { Clock, Timer } from "../../core/clock.ts";
import { MessagingError } from "../../core/errors.ts";
import { Fifo } from "../../core/fifo.ts";
import type { Side } from "./state.ts";

/** A send in progress. */
interface InFlightSend {
  readonly side: Side;
  readonly bucket: number;
}

/** The sends in progress by side, so that a change can wait for those that follow the state before it. */
export class InFlight {
  readonly #sends = new Set<InFlightSend>();
  #waiting: { readonly leaving: (bucket: number, side: Side) => boolean; readonly done: () => void }[] = [];

  /** Tracks a send until it ends. */
  track<Result>(side: Side, bucket: number, sent: Promise<Result>): Promise<Result> {
    const send = { side, bucket };
    this.#sends.add(send);
    const ended = (): void => {
      this.#sends.delete(send);
      this.#check();
    };
    sent.then(ended, ended);
    return sent;
  }

  /** Resolves when no send is in progress for which `leaving` is true. */
  async drained(leaving: (bucket: number, side: Side) => boolean): Promise<void> {
    await new Promise<void>((done) => {
      this.#waiting.push({ leaving, done });
      this.#check();
    });
  }

  #check(): void {
    if (this.#waiting.length === 0) return;
    this.#waiting = this.#waiting.filter(({ leaving, done }) => {
      for (const { bucket, side } of this.#sends) if (leaving(bucket, side)) return true;
      done();
      return false;
    });
  }
}

/** A send that may have to wait for its key. */
interface KeyedSend {
  /** Destination and key. Sends with the same name stay in order. */
  readonly queueName: string;
  readonly where: string;
  readonly timeoutMs: number;
  /** The side to send to; undefined while the key moves. */
  readonly side: () => Side | undefined;
  /** Sends, with the milliseconds that are left. */
  readonly send: (side: Side, timeoutMs: number) => Promise<Receipt>;
}

/** Waiting sends are checked even without an event, since a barrier may be lost. */
const CHECK_MS = 500;

interface HeldSend {
  readonly send: KeyedSend;
  readonly since: number;
  readonly resolve: (receipt: Promise<Receipt>) => void;
  readonly reject: (error: MessagingError) => void;
  timer: Timer | undefined;
  over: boolean;
}

/** Keeps the sends of a key in call order while its key moves. */
export class HeldKeys {
  readonly #clock: Clock;
  readonly #most: number;
  readonly #queues = new Map<string, Fifo<HeldSend>>();
  #count = 0;
  #timer: Timer | undefined;

  constructor(clock: Clock, most: number) {
    this.#clock = clock;
    this.#most = most;
  }

  /** The number of waiting sends. */
  get count(): number {
    return this.#count;
  }

  /** Sends now, or when its key has moved and earlier sends of the key have gone. */
  send(send: KeyedSend): Promise<Receipt> {
    const waiting = this.#queues.get(send.queueName);
    const side = waiting === undefined ? send.side() : undefined;
    if (side !== undefined) return send.send(side, send.timeoutMs);
    if (this.#count >= this.#most) {
      const what = `${send.where}: ${this.#count} messages wait while their keys move to the other broker`;
      return Promise.reject(new MessagingError("overloaded", `${what}. This one was not sent; send it again later`));
    }
    return new Promise((resolve, reject) => {
      const held: HeldSend = {
        send,
        since: this.#clock.monotonic(),
        resolve,
        reject,
        timer: undefined,
        over: false,
      };
      held.timer = this.#clock.schedule(() => this.#expire(held), send.timeoutMs);
      this.#count++;
      this.#checkLater();
      if (waiting !== undefined) waiting.push(held);
      else {
        const queue = new Fifo<HeldSend>();
        queue.push(held);
        this.#queues.set(send.queueName, queue);
      }
    });
  }

  /** Checks one queue, or all. */
  retry(queueName?: string): void {
    const names = queueName === undefined ? [...this.#queues.keys()] : [queueName];
    for (const name of names) this.#retry(name);
  }

  #checkLater(): void {
    if (this.#count === 0) return;
    this.#timer ??= this.#clock.schedule(() => {
      this.#timer = undefined;
      this.retry();
      this.#checkLater();
    }, CHECK_MS);
  }

  #retry(name: string): void {
    const queue = this.#queues.get(name);
    if (queue === undefined) return;
    for (let held = queue.peek(); held !== undefined; held = queue.peek()) {
      if (!held.over) {
        const side = held.send.side();
        if (side === undefined) return;
        this.#end(held);
        const waited = this.#clock.monotonic() - held.since;
        held.resolve(held.send.send(side, Math.max(Math.ceil(held.send.timeoutMs - waited), 1)));
      }
      queue.shift();
    }
    this.#queues.delete(name);
  }

  #end(held: HeldSend): void {
    held.over = true;
    this.#count--;
    if (held.timer !== undefined) this.#clock.cancel(held.timer);
  }

  #expire(held: HeldSend): void {
    if (held.over) return;
    this.#end(held);
    const what = `${held.send.where}: the message was not sent before its timeout, because its key is moving to the other broker`;
    held.reject(new MessagingError("timeout", `${what}. Send it again`));
    this.#retry(held.send.queueName);
  }

  /** Rejects all waiting sends. */
  close(): void {
    if (this.#timer !== undefined) this.#clock.cancel(this.#timer);
    this.#timer = undefined;
    for (const queue of this.#queues.values()) {
      for (const held of queue) {
        if (held.over) continue;
        this.#end(held);
        held.reject(new MessagingError("closed", `${held.send.where}: the broker was stopped; it was not sent`));
      }
    }
    this.#queues.clear();
  }
}
