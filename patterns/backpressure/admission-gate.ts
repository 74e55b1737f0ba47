import { Fifo } from "../../core/fifo.ts";
import { type Clock, MessagingError, type Receipt, type Timer } from "../../core/index.ts";
import type { DepthGauge } from "./depth-gauge.ts";

/** Sends, within so many milliseconds if there is a number. */
export type Send = (timeoutMs: number | undefined) => Promise<Receipt>;

/** So many answered callers may stay in the list beyond those that wait. */
const SPARE = 64;

interface Waiting {
  readonly send: Send;
  readonly deadline: number;
  readonly timer: Timer;
  readonly resolve: (receipt: Promise<Receipt>) => void;
  answered: boolean;
}

/** Lets sends to one destination pass, in the order of their calls, while it is not full. */
export class AdmissionGate {
  readonly gauges: readonly DepthGauge[];
  readonly #clock: Clock;
  readonly #pollMs: number;
  readonly #whenFull: "wait" | "fail";
  readonly #waiters = new Fifo<Waiting>();
  #waiting = 0;
  /** Whether the first answer, or the lack of one, has been seen. */
  #asked = false;
  #timer: Timer | undefined;

  constructor(gauges: readonly DepthGauge[], clock: Clock, pollMs: number, whenFull: "wait" | "fail") {
    this.gauges = gauges;
    this.#clock = clock;
    this.#pollMs = pollMs;
    this.#whenFull = whenFull;
  }

  /** Callers waiting. */
  get waiting(): number {
    return this.#waiting;
  }

  pass(send: Send, timeoutMs: number): Promise<Receipt> {
    if (this.gauges.some((gauge) => gauge.stale)) this.#refresh();
    if (this.#waiting === 0 && this.#asked && this.#full === undefined) return this.#go(send, undefined);
    if (this.#whenFull === "fail" && this.#asked && this.#full !== undefined) {
      return Promise.reject(overloaded(this.#full));
    }
    return this.#wait(send, timeoutMs);
  }

  get #full(): DepthGauge | undefined {
    return this.gauges.find((gauge) => gauge.full);
  }

  #go(send: Send, timeoutMs: number | undefined): Promise<Receipt> {
    for (const gauge of this.gauges) gauge.take(1);
    const settled = (): void => {
      for (const gauge of this.gauges) gauge.settled(1);
    };
    const sent = new Promise<Receipt>((resolve) => resolve(send(timeoutMs)));
    sent.then(settled, settled);
    return sent;
  }

  #wait(send: Send, timeoutMs: number): Promise<Receipt> {
    return new Promise((resolve) => {
      const waiting: Waiting = {
        send,
        deadline: this.#clock.monotonic() + timeoutMs,
        timer: this.#clock.schedule(() => this.#answer(waiting, this.#timeout(timeoutMs)), timeoutMs),
        resolve,
        answered: false,
      };
      this.#waiters.push(waiting);
      this.#waiting++;
      this.#keepAsking();
    });
  }

  #answer(waiting: Waiting, end: Promise<Receipt>): void {
    waiting.answered = true;
    this.#clock.cancel(waiting.timer);
    this.#waiting--;
    while (this.#waiters.peek()?.answered) this.#waiters.shift();
    // Behind one that waits long, many that gave up soon must not pile up.
    if (this.#waiters.size > 2 * this.#waiting + SPARE) {
      const kept = [...this.#waiters].filter((other) => !other.answered);
      this.#waiters.clear();
      this.#waiters.putBack(kept);
    }
    waiting.resolve(end);
  }

  #refresh(): void {
    const asked = Promise.all(this.gauges.map((gauge) => gauge.refresh()));
    asked.then(() => {
      this.#asked = true;
      this.#letPass();
    });
  }

  /** One after another, as long as there is room: each takes some of it. */
  #letPass(): void {
    for (let next = this.#waiters.peek(); next !== undefined; next = this.#waiters.peek()) {
      const full = this.#full;
      if (full !== undefined) {
        if (this.#whenFull === "wait") break;
        this.#answer(next, Promise.reject(overloaded(full)));
        continue;
      }
      const left = Math.max(Math.ceil(next.deadline - this.#clock.monotonic()), 1);
      this.#answer(next, this.#go(next.send, left));
    }
    this.#keepAsking();
  }

  /** While anybody waits, and no longer. */
  #keepAsking(): void {
    if (this.#waiting === 0) {
      if (this.#timer !== undefined) this.#clock.cancel(this.#timer);
      this.#timer = undefined;
      return;
    }
    this.#timer ??= this.#clock.schedule(() => {
      this.#timer = undefined;
      this.#refresh();
    }, this.#pollMs);
  }

  #timeout(timeoutMs: number): Promise<never> {
    const gauge = this.#full ?? this.gauges.find(({ known }) => !known);
    const what = gauge === undefined ? "its turn" : `the depth of ${gauge.limit.name} to fall`;
    return Promise.reject(
      new MessagingError(
        "timeout",
        `the message waited ${timeoutMs} ms for ${what}, and was not sent. Send it again later, add consumers, or raise maxDepth`,
      ),
    );
  }
}

function overloaded({ limit, level }: DepthGauge): MessagingError {
  return new MessagingError(
    "overloaded",
    `${limit.name} is full: ${level} messages of ${limit.maxDepth}; it takes more from ${limit.resumeAt} down. Nothing was sent: send it again later, or let sends wait with whenFull "wait"`,
  );
}
