import type { Receipt } from "../../core/broker.ts";
import type { Clock, Timer } from "../../core/clock.ts";
import { MessagingError } from "../../core/errors.ts";
import { Fifo } from "../../core/fifo.ts";
import type { Side } from "./state.ts";

/** A send that is under way. */
interface Flying {
  readonly side: Side;
  readonly bucket: number;
}

/** What is under way to which side, so that a change can wait for what goes by the state before it. */
export class InFlight {
  readonly #flying = new Set<Flying>();
  #waiting: { readonly leaving: (bucket: number, side: Side) => boolean; readonly done: () => void }[] = [];

  /** Keeps a send until it is answered. */
  track<Result>(side: Side, bucket: number, sent: Promise<Result>): Promise<Result> {
    const flying = { side, bucket };
    this.#flying.add(flying);
    const landed = (): void => {
      this.#flying.delete(flying);
      this.#check();
    };
    sent.then(landed, landed);
    return sent;
  }

  /** Resolves when nothing is under way that `leaving` says yes to. */
  async landed(leaving: (bucket: number, side: Side) => boolean): Promise<void> {
    await new Promise<void>((done) => {
      this.#waiting.push({ leaving, done });
      this.#check();
    });
  }

  #check(): void {
    if (this.#waiting.length === 0) return;
    this.#waiting = this.#waiting.filter(({ leaving, done }) => {
      for (const { bucket, side } of this.#flying) if (leaving(bucket, side)) return true;
      done();
      return false;
    });
  }
}

/** A send that may have to wait for its key. */
interface KeyedSend {
  /** Destination and key: what is kept in order. */
  readonly queueName: string;
  readonly where: string;
  readonly timeoutMs: number;
  /** Where it may go now; undefined while it has to wait. */
  readonly side: () => Side | undefined;
  /** Hands it over, with so many milliseconds left. */
  readonly send: (side: Side, timeoutMs: number) => Promise<Receipt>;
}

/** What waits is looked at again without an event, too: a barrier may have been lost. */
const LOOK_EVERY_MS = 500;

interface Held {
  readonly send: KeyedSend;
  readonly since: number;
  readonly resolve: (receipt: Promise<Receipt>) => void;
  readonly reject: (error: MessagingError) => void;
  timer: Timer | undefined;
  over: boolean;
}

/** Keeps the sends of a key in the order of their calls while some of them have to wait. */
export class HeldKeys {
  readonly #clock: Clock;
  readonly #most: number;
  readonly #queues = new Map<string, Fifo<Held>>();
  #count = 0;
  #timer: Timer | undefined;

  constructor(clock: Clock, most: number) {
    this.#clock = clock;
    this.#most = most;
  }

  /** How many wait. */
  get count(): number {
    return this.#count;
  }

  /** Sends now, or when the key may go and those before it went. */
  send(send: KeyedSend): Promise<Receipt> {
    const waiting = this.#queues.get(send.queueName);
    const side = waiting === undefined ? send.side() : undefined;
    if (side !== undefined) return send.send(side, send.timeoutMs);
    if (this.#count >= this.#most) {
      const what = `${send.where}: ${this.#count} messages wait while their keys move to the other broker`;
      return Promise.reject(new MessagingError("overloaded", `${what}. It was not sent; send it again later`));
    }
    return new Promise((resolve, reject) => {
      const held: Held = {
        send,
        since: this.#clock.monotonic(),
        resolve,
        reject,
        timer: undefined,
        over: false,
      };
      held.timer = this.#clock.schedule(() => this.#expire(held), send.timeoutMs);
      this.#count++;
      this.#lookLater();
      if (waiting !== undefined) waiting.push(held);
      else {
        const queue = new Fifo<Held>();
        queue.push(held);
        this.#queues.set(send.queueName, queue);
      }
    });
  }

  /** Something changed: looks at a queue, or at all of them. */
  retry(queueName?: string): void {
    const names = queueName === undefined ? [...this.#queues.keys()] : [queueName];
    for (const name of names) this.#retry(name);
  }

  #lookLater(): void {
    if (this.#count === 0) return;
    this.#timer ??= this.#clock.schedule(() => {
      this.#timer = undefined;
      this.retry();
      this.#lookLater();
    }, LOOK_EVERY_MS);
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

  #end(held: Held): void {
    held.over = true;
    this.#count--;
    if (held.timer !== undefined) this.#clock.cancel(held.timer);
  }

  #expire(held: Held): void {
    if (held.over) return;
    this.#end(held);
    const what = `${held.send.where}: its deadline passed while its key was moving to the other broker`;
    held.reject(new MessagingError("timeout", `${what}; it was not sent. Send it again`));
    this.#retry(held.send.queueName);
  }

  /** Refuses all that wait. */
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
