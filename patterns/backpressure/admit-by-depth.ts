import { aborted } from "../../core/abort.ts";
import type { Depth } from "../../core/adapter.ts";
import type { BatchEntry, Broker, Publisher, Receipt } from "../../core/broker.ts";
import { checkInteger, checkName, checkOptions, clockOf } from "../../core/checks.ts";
import type { Clock, Timer } from "../../core/clock.ts";
import type { Queue, Topic } from "../../core/destination.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { Fifo } from "../../core/fifo.ts";
import type { PublishOptions, SendOptions } from "../../core/options.ts";
import { sendEach } from "../../core/publish/publisher.ts";

/** How much may wait at a queue, or at one subscription of a topic. */
export interface DepthLimit {
  readonly destination: Queue<never, unknown> | Topic<never, unknown>;
  /** For a topic: whose copies are counted. */
  readonly subscription?: string;
  /** The high mark: with so many messages it is full. */
  readonly maxDepth: number;
  /** The low mark: once full, it stays full until there are so few. Default: three quarters of `maxDepth`. */
  readonly resumeAt?: number;
}

/** Where depths come from: a broker object. */
export type DepthSource = Pick<Broker, "depth">;

/** A limit with nothing left open. */
interface CheckedLimit {
  readonly destination: DepthLimit["destination"];
  readonly subscription: string | undefined;
  /** As people read it: `queue "orders"`. */
  readonly name: string;
  readonly maxDepth: number;
  readonly resumeAt: number;
}

/** Fills in the defaults; throws `invalid` for what makes no sense. */
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

/** The name of a queue or of a subscription, as people read it; throws `invalid` for anything else. */
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

/** Asks for the depth of what the limit is about. */
export function askDepth(
  source: DepthSource,
  { destination, subscription }: Pick<CheckedLimit, "destination" | "subscription">,
): Promise<Depth> {
  return destination.kind === "queue" ? source.depth(destination) : source.depth(destination, subscription as string);
}

/** How long an answer is waited for. */
const ASK_MS = 5_000;
/** How long the last depth known is believed while no newer one can be had. */
const BELIEVED_MS = 10_000;
/** What does not mend itself within a moment: there is nothing to believe in. */
const FINAL = ["closed", "not-found", "unauthorized", "unsupported", "invalid"] as const;

/**
 * What is known of a depth: the last answer, and what this process added since, so that the limit holds between two
 * answers too. It is asked for at a bounded rate, whoever wants to know. Credits as in Reactive Streams: the room below
 * the limit is what may be taken, and an answer grants anew what was handled.
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
  /** Taken and not yet settled: it may not be in the depth yet. */
  #pending = 0;
  /** What may have come on top of the depth. */
  #since = 0;
  #full = false;

  constructor(limit: CheckedLimit, ask: () => Promise<Depth>, clock: Clock, pollMs: number) {
    this.limit = limit;
    this.#ask = ask;
    this.#clock = clock;
    this.#pollMs = pollMs;
  }

  /** The last depth told, and what was added since; undefined while it is not known. */
  get level(): number | undefined {
    return this.known ? (this.#depth as number) + this.#since : undefined;
  }

  /** Whether anything is known about the depth at present. */
  get known(): boolean {
    return this.#depth !== undefined && this.#clock.monotonic() - this.#knownAt <= BELIEVED_MS + this.#pollMs;
  }

  /** Whether it is known to be full: it was at the high mark, and not at the low mark since. */
  get full(): boolean {
    return this.#full && this.known;
  }

  /** Whether an answer is old enough to ask again. */
  get stale(): boolean {
    return this.#asking === undefined && this.#clock.monotonic() - this.#askedAt >= this.#pollMs;
  }

  /** Uses up so much of the room; `settled` says when it is in the depth or will never be. */
  take(count: number): void {
    this.#pending += count;
    this.#since += count;
    this.#judge();
  }

  settled(count: number): void {
    this.#pending -= count;
  }

  /** Asks, unless that was done a moment ago; a call meanwhile shares it. Never rejects, and resolves in bounded time. */
  refresh(): Promise<void> {
    if (this.#asking !== undefined) return this.#asking;
    if (!this.stale) return Promise.resolve();
    this.#askedAt = this.#clock.monotonic();
    const before = this.#since;
    const pending = this.#pending;
    this.#asking = this.#answer().then((depth) => {
      this.#asking = undefined;
      if (depth === undefined) return;
      this.#depth = depth;
      this.#knownAt = this.#clock.monotonic();
      this.#since = this.#since - before + pending;
      this.#judge();
    });
    return this.#asking;
  }

  /** The depth; undefined if it could not be had in time. */
  #answer(): Promise<number | undefined> {
    return new Promise((resolve) => {
      const timer = this.#clock.schedule(() => resolve(undefined), ASK_MS);
      const told = (depth: number | undefined): void => {
        this.#clock.cancel(timer);
        resolve(depth);
      };
      const asked = async (): Promise<number | undefined> => {
        const depth: Partial<Depth> | undefined = await this.#ask();
        return Number.isFinite(depth?.ready) ? depth?.ready : undefined;
      };
      asked().then(told, (error: unknown) => {
        if (FINAL.some((code) => isMessagingError(error, code))) this.#depth = undefined;
        told(undefined);
      });
    });
  }

  #judge(): void {
    if (this.#depth === undefined) return;
    const level = this.#depth + this.#since;
    if (level >= this.limit.maxDepth) this.#full = true;
    else if (level <= this.limit.resumeAt) this.#full = false;
  }
}

/** Sends, within so many milliseconds if there is a number. */
type Send = (timeoutMs: number | undefined) => Promise<Receipt>;

/** So many answered callers may stay in the list beyond those that wait. */
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

/** Lets sends to one destination pass, in the order of their calls, while it is not full. */
class AdmissionGate {
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

const DEFAULT_POLL_MS = 500;
const DEFAULT_TIMEOUT_MS = 30_000;

/** The options of {@link admitByDepth}. */
export interface AdmissionOptions {
  /** What is limited. Several subscriptions of one topic may be: an event then waits for the fullest. */
  readonly limits: readonly DepthLimit[];
  /** When it is full: `wait` for room, or `fail` at once with `overloaded`. Default `wait`. */
  readonly whenFull?: "wait" | "fail";
  /** The least time between two questions for one depth, in milliseconds. Default 500. */
  readonly pollMs?: number;
  /** How long a send without a `timeoutMs` of its own waits, in milliseconds. Default 30,000. */
  readonly timeoutMs?: number;
  /** Default: the machine's. */
  readonly clock?: Clock;
}

/** What is known of one limit. */
export interface AdmissionStatus {
  /** As in `queue "orders"`. */
  readonly destination: string;
  /** The last depth told, and what this publisher added since; undefined while it is not known. */
  readonly depth: number | undefined;
  readonly full: boolean;
  /** Sends that wait for room. */
  readonly waiting: number;
}

/** A publisher that sends only what there is room for; made by {@link admitByDepth}. */
export interface AdmittingPublisher extends Publisher {
  status(): readonly AdmissionStatus[];
}

/**
 * A publisher that keeps queues from growing without end: with `maxDepth` messages waiting on a destination, sends to it
 * wait until there are `resumeAt`, in the order of the calls, or are refused with `overloaded`. What it is not told to
 * limit passes through. A send that has waited has what is left of its time; one that waited in vain is refused with
 * `timeout`, and was not sent.
 *
 * The depth is asked for when it is used, at most every `pollMs`, once for all callers; in between, what this publisher
 * sends is added. So the limit holds to the message for one publisher; of several, each may add what it sends between
 * two answers. Choose `maxDepth` larger than what is to pass in `pollMs`. Messages sent with a delay count when they are
 * due.
 *
 * While the depth cannot be had (the broker is away), the last one is believed for about ten seconds, what is sent added;
 * after that messages pass: into the publish buffer, which is bounded and answers truthfully. So nobody waits for ever,
 * and nothing is taken that is not sent. Throws `invalid` for wrong options.
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
    // What is wrong is the publisher's to refuse.
    const waitMs = typeof own === "number" && own > 0 ? own : this.#timeoutMs;
    return gate.pass(
      (leftMs) => send(leftMs === undefined ? options : ({ ...options, timeoutMs: leftMs } as Options)),
      waitMs,
      // The publisher refuses what is no signal.
      options?.signal instanceof AbortSignal ? options.signal : undefined,
    );
  }
}
