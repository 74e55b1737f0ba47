import type { Depth } from "../../core/adapter.ts";
import type { BatchEntry, Broker, Publisher, Receipt } from "../../core/broker.ts";
import { checkInteger, checkName, checkOptions, clockOf } from "../../core/checks.ts";
import type { Clock, Timer } from "../../core/clock.ts";
import type { Queue, Topic } from "../../core/destination.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { Fifo } from "../../core/fifo.ts";
import type { PublishOptions, SendOptions } from "../../core/options.ts";
import { aborted, sendEach } from "../../core/publish/publisher.ts";

/** The limit of a queue, or of one subscription of a topic. */
export interface DepthLimit {
  readonly destination: Queue<never, unknown> | Topic<never, unknown>;
  /** Required for a topic: the subscription whose messages are counted. */
  readonly subscription?: string;
  /** The high mark in messages. At this depth the destination is full. */
  readonly maxDepth: number;
  /** The low mark. A full destination stays full until its depth falls to this. Default: three quarters of `maxDepth`. */
  readonly resumeAt?: number;
}

/** Reports depths: a broker object. */
export type DepthSource = Pick<Broker, "depth">;

/** A limit with its defaults. */
interface CheckedLimit {
  readonly destination: DepthLimit["destination"];
  readonly subscription: string | undefined;
  /** For messages and status, as in `queue "orders"`. */
  readonly name: string;
  readonly maxDepth: number;
  readonly resumeAt: number;
}

/** Fills in the defaults. Throws `invalid`. */
export function checkLimits(where: string, limits: readonly DepthLimit[]): CheckedLimit[] {
  if (!Array.isArray(limits) || limits.length === 0) {
    throw new MessagingError("invalid", `${where} { limits } takes a list of at least one { destination, maxDepth }`);
  }
  return limits.map((limit: DepthLimit) => checkLimit(`${where} { limits }`, limit));
}

function checkLimit(where: string, limit: DepthLimit): CheckedLimit {
  checkOptions(where, limit, ["destination", "subscription", "maxDepth", "resumeAt"]);
  const { destination, subscription, maxDepth } = limit;
  const name = sourceName(where, destination, subscription);
  checkInteger(`${where}: maxDepth of ${name}`, maxDepth, 1);
  const resumeAt = limit.resumeAt ?? Math.floor((maxDepth * 3) / 4);
  checkInteger(`${where}: resumeAt of ${name}`, resumeAt, 0, maxDepth - 1);
  return { destination, subscription, name, maxDepth, resumeAt };
}

/** Names a queue or subscription for messages. Throws `invalid` for anything else. */
export function sourceName(
  where: string,
  destination: DepthLimit["destination"],
  subscription: string | undefined,
): string {
  if (destination?.kind === "queue" && subscription === undefined) return `queue "${destination.name}"`;
  if (destination?.kind === "topic") {
    checkName("subscription", subscription);
    return `subscription "${subscription}" of topic "${destination.name}"`;
  }
  throw new MessagingError("invalid", `${where} takes a queue, or a topic with the name of a subscription`);
}

/** Asks the broker for the depth of a limit's destination. */
export function askDepth(
  source: DepthSource,
  { destination, subscription }: Pick<CheckedLimit, "destination" | "subscription">,
): Promise<Depth> {
  return destination.kind === "queue" ? source.depth(destination) : source.depth(destination, subscription as string);
}

/** The timeout of one depth request. */
const REQUEST_TIMEOUT_MS = 5_000;
/** For how long the last depth is used while no newer one arrives. `pollMs` is added. */
const MAX_AGE_MS = 10_000;
/** Errors that do not pass by themselves. After one, the last depth is not used any more. */
const PERMANENT = ["closed", "not-found", "unauthorized", "unsupported", "invalid"] as const;

/**
 * The estimated depth of one destination: the last depth from the broker, plus the messages this process added since.
 * Requests are shared and at least `pollMs` apart. Works like credits in Reactive Streams: the room below the limit is
 * the credit, and each answer grants credit for handled messages.
 */
export class DepthGauge {
  readonly limit: CheckedLimit;
  readonly #ask: () => Promise<Depth>;
  readonly #clock: Clock;
  readonly #pollMs: number;
  #depth: number | undefined;
  #knownAt = Number.NEGATIVE_INFINITY;
  #askedAt = Number.NEGATIVE_INFINITY;
  #asking: Promise<void> | undefined;
  /** Taken and not settled. The next answer may not include them. */
  #pending = 0;
  /** Messages to add to the last depth. */
  #since = 0;
  #full = false;

  constructor(limit: CheckedLimit, ask: () => Promise<Depth>, clock: Clock, pollMs: number) {
    this.limit = limit;
    this.#ask = ask;
    this.#clock = clock;
    this.#pollMs = pollMs;
  }

  /** The estimated depth; undefined while it is unknown. */
  get level(): number | undefined {
    return this.known ? (this.#depth as number) + this.#since : undefined;
  }

  /** Whether the last depth is recent enough to use. */
  get known(): boolean {
    return this.#depth !== undefined && this.#clock.monotonic() - this.#knownAt <= MAX_AGE_MS + this.#pollMs;
  }

  /** Whether it reached the high mark and did not fall to the low mark since. False while the depth is unknown. */
  get full(): boolean {
    return this.#full && this.known;
  }

  /** Whether a new request is due. */
  get stale(): boolean {
    return this.#asking === undefined && this.#clock.monotonic() - this.#askedAt >= this.#pollMs;
  }

  /** Uses `count` messages of the room. Call `settled` when they are in the broker's depth, or never will be. */
  take(count: number): void {
    this.#pending += count;
    this.#since += count;
    this.#updateFull();
  }

  settled(count: number): void {
    this.#pending -= count;
  }

  /** Requests the depth if a request is due; concurrent calls share one. Never rejects; resolves in bounded time. */
  refresh(): Promise<void> {
    if (this.#asking !== undefined) return this.#asking;
    if (!this.stale) return Promise.resolve();
    this.#askedAt = this.#clock.monotonic();
    const before = this.#since;
    const pending = this.#pending;
    this.#asking = this.#request().then((depth) => {
      this.#asking = undefined;
      if (depth === undefined) return;
      this.#depth = depth;
      this.#knownAt = this.#clock.monotonic();
      this.#since = this.#since - before + pending;
      this.#updateFull();
    });
    return this.#asking;
  }

  /** The depth; undefined after an error or a timeout. */
  #request(): Promise<number | undefined> {
    return new Promise((resolve) => {
      const timer = this.#clock.schedule(() => resolve(undefined), REQUEST_TIMEOUT_MS);
      const answered = (depth: number | undefined): void => {
        this.#clock.cancel(timer);
        resolve(depth);
      };
      const ask = async (): Promise<number | undefined> => {
        const depth: Partial<Depth> | undefined = await this.#ask();
        return Number.isFinite(depth?.ready) ? depth?.ready : undefined;
      };
      ask().then(answered, (error: unknown) => {
        if (PERMANENT.some((code) => isMessagingError(error, code))) this.#depth = undefined;
        answered(undefined);
      });
    });
  }

  #updateFull(): void {
    if (this.#depth === undefined) return;
    const level = this.#depth + this.#since;
    if (level >= this.limit.maxDepth) this.#full = true;
    else if (level <= this.limit.resumeAt) this.#full = false;
  }
}

/** Sends; a number replaces the send's timeout in milliseconds. */
type Send = (timeoutMs: number | undefined) => Promise<Receipt>;

/** How many answered callers may stay in the list beyond those that wait. */
const SPARE = 64;

interface Waiting {
  readonly send: Send;
  readonly deadline: number;
  readonly timer: Timer;
  readonly resolve: (receipt: Promise<Receipt>) => void;
  readonly signal: AbortSignal | undefined;
  readonly onAbort: (() => void) | undefined;
  answered: boolean;
}

/** Lets sends to one destination pass in call order while it is not full. */
class AdmissionGate {
  readonly gauges: readonly DepthGauge[];
  readonly #clock: Clock;
  readonly #pollMs: number;
  readonly #whenFull: "wait" | "fail";
  readonly #waiters = new Fifo<Waiting>();
  #waiting = 0;
  /** Whether the first depth request has ended. */
  #asked = false;
  #timer: Timer | undefined;

  constructor(gauges: readonly DepthGauge[], clock: Clock, pollMs: number, whenFull: "wait" | "fail") {
    this.gauges = gauges;
    this.#clock = clock;
    this.#pollMs = pollMs;
    this.#whenFull = whenFull;
  }

  /** Sends that wait. */
  get waiting(): number {
    return this.#waiting;
  }

  pass(send: Send, timeoutMs: number, signal: AbortSignal | undefined): Promise<Receipt> {
    if (this.gauges.some((gauge) => gauge.stale)) this.#refresh();
    if (this.#waiting === 0 && this.#asked && this.#full === undefined) return this.#go(send, undefined);
    if (this.#whenFull === "fail" && this.#asked && this.#full !== undefined) {
      return Promise.reject(overloaded(this.#full));
    }
    return this.#wait(send, timeoutMs, signal);
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

  #wait(send: Send, timeoutMs: number, signal: AbortSignal | undefined): Promise<Receipt> {
    if (signal?.aborted) return Promise.reject(aborted("the message", signal));
    return new Promise((resolve) => {
      const waiting: Waiting = {
        send,
        deadline: this.#clock.monotonic() + timeoutMs,
        timer: this.#clock.schedule(() => this.#answer(waiting, this.#timeout(timeoutMs)), timeoutMs),
        resolve,
        signal,
        onAbort: signal && (() => this.#answer(waiting, Promise.reject(aborted("the message", signal)))),
        answered: false,
      };
      if (waiting.onAbort !== undefined) signal?.addEventListener("abort", waiting.onAbort, { once: true });
      this.#waiters.push(waiting);
      this.#waiting++;
      this.#keepAsking();
    });
  }

  #answer(waiting: Waiting, end: Promise<Receipt>): void {
    waiting.answered = true;
    if (waiting.onAbort !== undefined) waiting.signal?.removeEventListener("abort", waiting.onAbort);
    this.#clock.cancel(waiting.timer);
    this.#waiting--;
    while (this.#waiters.peek()?.answered) this.#waiters.shift();
    // Callers with short timeouts must not pile up behind one with a long timeout.
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

  /** Sends one after another while there is room. Each uses some of it. */
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

  /** Polls only while a send waits. */
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
        `the message waited ${timeoutMs} ms for ${what} and was not sent. Send it again later, add consumers, or raise maxDepth`,
      ),
    );
  }
}

function overloaded({ limit, level }: DepthGauge): MessagingError {
  return new MessagingError(
    "overloaded",
    `${limit.name} is full: ${level} messages of ${limit.maxDepth}. It accepts messages again from ${limit.resumeAt} down. Nothing was sent: send it again later, or use whenFull "wait"`,
  );
}

const DEFAULT_POLL_MS = 500;
const DEFAULT_TIMEOUT_MS = 30_000;

/** The options of {@link admitByDepth}. */
export interface AdmissionOptions {
  /** The limits. For several subscriptions of one topic, an event waits for the fullest. */
  readonly limits: readonly DepthLimit[];
  /** What a send to a full destination does: `wait` for room, or `fail` at once with `overloaded`. Default `wait`. */
  readonly whenFull?: "wait" | "fail";
  /** The least time between two depth requests for one destination, in milliseconds. Default 500. */
  readonly pollMs?: number;
  /** How long a send without its own `timeoutMs` waits, in milliseconds. Default 30,000. */
  readonly timeoutMs?: number;
  /** Default: the system clock. */
  readonly clock?: Clock;
}

/** The state of one limit. */
export interface AdmissionStatus {
  /** As in `queue "orders"`. */
  readonly destination: string;
  /** The last depth from the broker, plus what this publisher added since; undefined while it is unknown. */
  readonly depth: number | undefined;
  readonly full: boolean;
  /** Sends that wait for room. */
  readonly waiting: number;
}

/** A publisher with admission; made by {@link admitByDepth}. */
export interface AdmittingPublisher extends Publisher {
  status(): readonly AdmissionStatus[];
}

/**
 * Limits how deep queues may grow: sends to a full destination wait, or fail with `overloaded`.
 *
 * - A destination is full from `maxDepth` messages until it is down to `resumeAt`. Destinations without a limit pass.
 * - Waiting sends go in call order. The time they waited is taken off their timeout. A send that waited too long fails
 *   with `timeout` and is not sent.
 * - The broker is asked for the depth at most every `pollMs`. Between two answers, what this publisher sends is added.
 * - The limit is exact for one publisher. Each further publisher may exceed it by what it sends between two answers.
 *   Choose `maxDepth` larger than what is sent in `pollMs`.
 * - Messages sent with a delay count when they are due.
 * - While the depth is unavailable, the last one is used for about ten seconds. After that, messages pass into the
 *   publish buffer, which has its own limit.
 *
 * Throws `invalid` for wrong options.
 */
export function admitByDepth(broker: Publisher & DepthSource, options: AdmissionOptions): AdmittingPublisher {
  const where = "admitByDepth";
  checkOptions(where, options, ["limits", "whenFull", "pollMs", "timeoutMs", "clock"]);
  const { whenFull = "wait", pollMs = DEFAULT_POLL_MS, timeoutMs = DEFAULT_TIMEOUT_MS } = options;
  const clock = clockOf(`${where} { clock }`, options.clock);
  if (whenFull !== "wait" && whenFull !== "fail") {
    throw new MessagingError("invalid", `${where} { whenFull } takes "wait" or "fail"`);
  }
  checkInteger(`${where} { pollMs }`, pollMs, 1);
  checkInteger(`${where} { timeoutMs }`, timeoutMs, 1);
  const byDestination = Map.groupBy(checkLimits(where, options.limits), ({ destination }) => gateName(destination));
  const gates = new Map<string, AdmissionGate>();
  for (const [name, limits] of byDestination) {
    const gauges = limits.map((limit) => new DepthGauge(limit, () => askDepth(broker, limit), clock, pollMs));
    gates.set(name, new AdmissionGate(gauges, clock, pollMs, whenFull));
  }
  return new Admission(broker, gates, timeoutMs);
}

function gateName({ kind, name }: CheckedLimit["destination"]): string {
  return `${kind} ${name}`;
}

class Admission implements AdmittingPublisher {
  readonly #publisher: Publisher;
  readonly #gates: ReadonlyMap<string, AdmissionGate>;
  readonly #timeoutMs: number;

  constructor(publisher: Publisher, gates: ReadonlyMap<string, AdmissionGate>, timeoutMs: number) {
    this.#publisher = publisher;
    this.#gates = gates;
    this.#timeoutMs = timeoutMs;
  }

  send<Input, Output>(queue: Queue<Input, Output>, body: NoInfer<Input>, options?: SendOptions): Promise<Receipt> {
    return this.#pass(queue, options, (own) => this.#publisher.send(queue, body, own));
  }

  publish<Input, Output>(
    topic: Topic<Input, Output>,
    body: NoInfer<Input>,
    options?: PublishOptions,
  ): Promise<Receipt> {
    return this.#pass(topic, options, (own) => this.#publisher.publish(topic, body, own));
  }

  sendMany<Input, Output>(
    queue: Queue<Input, Output>,
    entries: readonly BatchEntry<NoInfer<Input>, SendOptions>[],
  ): Promise<readonly Receipt[]> {
    return sendEach("sendMany", entries, ({ body, options }) => this.send(queue, body, options));
  }

  publishMany<Input, Output>(
    topic: Topic<Input, Output>,
    entries: readonly BatchEntry<NoInfer<Input>, PublishOptions>[],
  ): Promise<readonly Receipt[]> {
    return sendEach("publishMany", entries, ({ body, options }) => this.publish(topic, body, options));
  }

  status(): readonly AdmissionStatus[] {
    return [...this.#gates.values()].flatMap((gate) =>
      gate.gauges.map((gauge) => ({
        destination: gauge.limit.name,
        depth: gauge.level,
        full: gauge.full,
        waiting: gate.waiting,
      })),
    );
  }

  #pass<Options extends SendOptions | PublishOptions>(
    destination: { readonly kind: "queue" | "topic"; readonly name: string } | undefined,
    options: Options | undefined,
    send: (options: Options | undefined) => Promise<Receipt>,
  ): Promise<Receipt> {
    const gate = destination === undefined ? undefined : this.#gates.get(`${destination.kind} ${destination.name}`);
    if (gate === undefined) return send(options);
    const own = options?.timeoutMs;
    // The publisher refuses a wrong timeout.
    const waitMs = typeof own === "number" && own > 0 ? own : this.#timeoutMs;
    return gate.pass(
      (leftMs) => send(leftMs === undefined ? options : ({ ...options, timeoutMs: leftMs } as Options)),
      waitMs,
      // The publisher refuses what is no signal.
      options?.signal instanceof AbortSignal ? options.signal : undefined,
    );
  }
}
