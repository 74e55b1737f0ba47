import type { DeliveryToken, IncomingMessage } from "../adapter.ts";
import type { Clock, Timer } from "../clock.ts";
import type { Deadline, Expiring } from "../deadlines.ts";
import type { Delivery } from "../delivery.ts";
import type { MessagingError } from "../errors.ts";
import { HEADER, numberHeader, publishedAt, userHeaders } from "../system-headers.ts";
import type { ConsumerContext } from "./consumer-context.ts";

const MEASURE_MS = 100;
/** The work that waits in memory beyond running handlers, in time: enough to cover a round trip to the broker. */
const BUFFER_MS = 50;
/** Only larger changes than these go to the broker. */
const GROW_BY = 1.5;
const SHRINK_BY = 4;
/** The latest `Date`: https://tc39.es/ecma262/#sec-time-values-and-time-range */
const LAST_DATE = 8.64e15;

/**
 * Computes how many unsettled deliveries to ask for: the running ones, plus those that handlers finish in a short time
 * (Little's law). Quick handlers then never wait for the broker, and slow ones leave messages to other consumers.
 */
export class Prefetch {
  readonly #clock: Clock;
  readonly #most: number;
  #wanted: number;
  #finished = 0;
  #starved = false;
  #since: number;
  #bytesPerMessage = 0;
  readonly #maxBytes: number;

  constructor(clock: Clock, concurrency: number, most: number, maxBytes: number) {
    this.#clock = clock;
    this.#most = most;
    this.#maxBytes = maxBytes;
    this.#wanted = concurrency * 2;
    this.#since = clock.monotonic();
  }

  /** Counts one delivery that left. */
  finished(concurrency: number): void {
    this.#finished++;
    const elapsed = this.#clock.monotonic() - this.#since;
    if (elapsed < MEASURE_MS) return;
    const desired = concurrency + Math.ceil((this.#finished / elapsed) * BUFFER_MS);
    this.#since += elapsed;
    this.#finished = 0;
    const shrinks = desired * SHRINK_BY < this.#wanted && !this.#starved;
    if (desired > this.#wanted * GROW_BY || shrinks) this.#wanted = desired;
    this.#starved = false;
  }

  /** Doubles the prefetch: a few busy keys fill it while handlers are free. */
  starved(): void {
    this.#starved = true;
    this.#wanted = Math.min(this.#wanted * 2, this.#most);
  }

  /** Takes the size of a body into the average. */
  arrived(bytes: number): void {
    this.#bytesPerMessage = this.#bytesPerMessage === 0 ? bytes : this.#bytesPerMessage * 0.9 + bytes * 0.1;
  }

  /** The prefetch for a concurrency and the unsettled bytes; 0 while those are over the limit. */
  size(concurrency: number, unsettledBytes: number): number {
    if (unsettledBytes >= this.#maxBytes) return 0;
    const byCount = Math.min(Math.max(this.#wanted, concurrency), this.#most);
    if (this.#bytesPerMessage * byCount <= this.#maxBytes) return byCount;
    // A power of two, so that a drifting average does not change the prefetch with every message.
    return Math.max(1, 2 ** Math.floor(Math.log2(this.#maxBytes / this.#bytesPerMessage)));
  }
}

/**
 * The state of a delivery in its consumer:
 * - `waiting`: for a handler;
 * - `quarantined`: until the quarantine lets it start;
 * - `running`: a handler works on it;
 * - `retrying`: until its next attempt in place (a blocking retry);
 * - `copying`: until its retry or dead-letter copy is confirmed;
 * - `parked`: until something takes its dead letter;
 * - `settling`: its settlement is under way;
 * - `settled`.
 */
type InFlightState = "waiting" | "quarantined" | "running" | "retrying" | "copying" | "parked" | "settling" | "settled";

const IDLE: readonly InFlightState[] = ["waiting", "quarantined", "retrying", "parked"];

/** One delivery in the engine, from its arrival until it is settled or lost. */
export class InFlightDelivery implements Expiring {
  deadline: Deadline | undefined = undefined;
  readonly incoming: IncomingMessage;
  /** The order of arrival in this consumer. */
  readonly sequence: number;
  state: InFlightState = "waiting";
  /** The next or running attempt, from 1. Known failures and crashes before it count; redeliveries do not. */
  attempt: number;
  /** ISO time of the first failed attempt known. */
  firstFailedAt: string | undefined;
  /** Its lease or connection is gone: a settlement would be answered `fenced`. */
  lost = false;
  /** The broker wants it back: it must not wait here for another attempt. */
  revoked = false;
  /** It does not count in the prefetch: the broker refuses its copies, or it is quarantined. */
  exempt = false;
  /** How many consumers crashed while they ran it; undefined before the quarantine log was read for it. */
  crashes: number | undefined = undefined;
  /** The attempt that runs now. */
  current: Attempt | undefined = undefined;
  /** Runs until its next attempt in place, or the next try of its copy. */
  wakeTimer: Timer | undefined = undefined;
  readonly #receivedAt: number;
  readonly #onExpire: (delivery: InFlightDelivery) => void;

  /** `receivedAt` is in milliseconds since 1970. */
  constructor(
    incoming: IncomingMessage,
    sequence: number,
    receivedAt: number,
    onExpire: (delivery: InFlightDelivery) => void,
  ) {
    this.incoming = incoming;
    this.sequence = sequence;
    this.#receivedAt = receivedAt;
    this.attempt = 1 + numberHeader(incoming.headers, HEADER.attempts, 0);
    this.firstFailedAt = incoming.headers[HEADER.firstFailedAt];
    this.#onExpire = onExpire;
  }

  /**
   * When the message was first published, in milliseconds since 1970: by its headers or id, else by its sender or broker
   * but not in the future, else the time of its arrival here.
   */
  get firstPublishedAt(): number {
    const { headers, id, sentAt } = this.incoming;
    return publishedAt(headers, id) ?? Math.min(sentAt ?? this.#receivedAt, this.#receivedAt);
  }

  get bytes(): number {
    return this.incoming.body.length;
  }

  /** Whether it only waits, so that it can be requeued at once. */
  get isIdle(): boolean {
    return IDLE.includes(this.state);
  }

  /** Whether a consumer crashed while it ran it. Only an attempt with nothing beside it shows whose fault that was. */
  get mustBeAlone(): boolean {
    return (this.crashes ?? 0) > 0;
  }

  learnCrashes(count: number): void {
    this.crashes = count;
    this.attempt += count;
  }

  /** Whether its settlement is under way or answered. */
  get isLeaving(): boolean {
    return this.state === "settling" || this.state === "settled";
  }

  /** Aborts the attempt under way, if there is one. */
  abort(reason: MessagingError): void {
    this.current?.abort(reason);
  }

  /** Calls `wake` after a while, unless {@link InFlightDelivery.cancelWake} comes before. */
  wakeAfter(clock: Clock, ms: number, wake: () => void): void {
    this.wakeTimer = clock.schedule(() => {
      this.wakeTimer = undefined;
      wake();
    }, ms);
  }

  cancelWake(clock: Clock): void {
    if (this.wakeTimer !== undefined) clock.cancel(this.wakeTimer);
    this.wakeTimer = undefined;
  }

  expire(): void {
    this.#onExpire(this);
  }
}

type AttemptContext = Pick<ConsumerContext, "destination" | "subscription" | "clock" | "timeoutMs">;

/** The engine's side of an attempt. Handlers see only its `delivery`. */
export class Attempt {
  readonly delivery: Delivery;
  /** The engine has left the handler behind and ignores its result. */
  abandoned = false;
  #controller: AbortController | undefined = undefined;
  #abortReason: MessagingError | undefined = undefined;

  /** `startedAt` is in milliseconds since 1970. */
  constructor(inFlight: InFlightDelivery, context: AttemptContext, startedAt: number) {
    this.delivery = new AttemptDelivery(inFlight, context, startedAt, this);
  }

  /** Made on first use: most handlers never read it. */
  get signal(): AbortSignal {
    this.#controller ??= new AbortController();
    if (this.#abortReason !== undefined) this.#controller.abort(this.#abortReason);
    return this.#controller.signal;
  }

  get aborted(): boolean {
    return this.#abortReason !== undefined;
  }

  abort(reason: MessagingError): void {
    if (this.#abortReason !== undefined) return;
    this.#abortReason = reason;
    this.#controller?.abort(reason);
  }
}

/** What a handler sees of a delivery during one attempt. */
class AttemptDelivery implements Delivery {
  readonly attempt: number;
  readonly destination: string;
  readonly subscription: string | undefined;
  readonly #inFlight: InFlightDelivery;
  readonly #startedAt: number;
  readonly #attempt: Attempt;
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  /** By the monotonic clock. */
  readonly #endsAt: number;
  #headers: Record<string, string> | undefined = undefined;

  constructor(
    inFlight: InFlightDelivery,
    { destination, subscription, clock, timeoutMs }: AttemptContext,
    startedAt: number,
    attempt: Attempt,
  ) {
    this.#inFlight = inFlight;
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
    this.#endsAt = clock.monotonic() + timeoutMs;
    this.#startedAt = startedAt;
    this.#attempt = attempt;
    this.attempt = inFlight.attempt;
    this.destination = destination;
    this.subscription = subscription?.address.name;
  }

  get id(): string {
    return this.#inFlight.incoming.id;
  }

  get key(): string | undefined {
    return this.#inFlight.incoming.key;
  }

  get routingKey(): string | undefined {
    return this.#inFlight.incoming.routingKey;
  }

  get headers(): Record<string, string> {
    this.#headers ??= userHeaders(this.#inFlight.incoming.headers);
    return this.#headers;
  }

  get firstPublishedAt(): Date {
    return new Date(this.#inFlight.firstPublishedAt);
  }

  get signal(): AbortSignal {
    return this.#attempt.signal;
  }

  get deadlineAt(): Date {
    return new Date(Math.min(this.#startedAt + this.#timeoutMs, LAST_DATE));
  }

  get remainingMs(): number {
    return Math.max(this.#endsAt - this.#clock.monotonic(), 0);
  }

  get native(): unknown {
    return this.#inFlight.incoming.native;
  }
}

/** Every in-flight delivery of a consumer, and the prefetch that follows from them. */
export class InFlightDeliveries {
  readonly #deliveries = new Set<InFlightDelivery>();
  readonly #size: Prefetch;
  readonly #clock: Clock;
  readonly #concurrency: () => number;
  readonly #onExpire: (delivery: InFlightDelivery) => void;
  readonly #mostCounted: number;
  readonly #mostExempt: { readonly messages: number; readonly bytes: number };
  /** Of deliveries that count in the prefetch. */
  #bytes = 0;
  #exempt = 0;
  #exemptBytes = 0;
  #sequence = 0;

  /** `onExpire` is called when the deadline of an attempt has passed. */
  constructor(context: ConsumerContext, concurrency: () => number, onExpire: (delivery: InFlightDelivery) => void) {
    this.#concurrency = concurrency;
    this.#onExpire = onExpire;
    this.#clock = context.clock;
    this.#mostCounted = context.prefetchMessages;
    this.#mostExempt = { messages: context.maxParked, bytes: context.prefetchBytes };
    this.#size = new Prefetch(context.clock, context.concurrency, context.prefetchMessages, context.prefetchBytes);
  }

  get size(): number {
    return this.#deliveries.size;
  }

  [Symbol.iterator](): Iterator<InFlightDelivery> {
    return this.#deliveries[Symbol.iterator]();
  }

  /** How many are in one of these states. */
  count(...states: readonly InFlightState[]): number {
    let count = 0;
    for (const { state } of this.#deliveries) if (states.includes(state)) count++;
    return count;
  }

  /** Deliveries that are not lost and have no settlement under way. */
  owned(): readonly InFlightDelivery[] {
    return [...this.#deliveries].filter(({ state, lost }) => state !== "settling" && !lost);
  }

  /** Deliveries with these tokens, or all of them, that are not lost. */
  chosen(tokens: readonly DeliveryToken[] | "all"): readonly InFlightDelivery[] {
    const wanted = tokens === "all" ? undefined : new Set(tokens);
    return [...this.#deliveries].filter(({ lost, incoming }) => !lost && (wanted?.has(incoming.token) ?? true));
  }

  add(incoming: IncomingMessage): InFlightDelivery {
    const delivery = new InFlightDelivery(incoming, this.#sequence++, this.#clock.now(), this.#onExpire);
    this.#deliveries.add(delivery);
    this.#bytes += delivery.bytes;
    this.#size.arrived(delivery.bytes);
    return delivery;
  }

  /** Forgets a delivery; a second call does nothing. */
  remove(delivery: InFlightDelivery): void {
    if (!this.#deliveries.delete(delivery)) return;
    delivery.state = "settled";
    this.rejoin(delivery);
    this.#bytes -= delivery.bytes;
    this.#size.finished(this.#concurrency());
  }

  /** Takes a delivery out of the prefetch, within the bounds for such deliveries. */
  exempt(delivery: InFlightDelivery): void {
    const { messages, bytes } = this.#mostExempt;
    if (delivery.exempt || this.#exempt >= messages || this.#exemptBytes + delivery.bytes > bytes) return;
    this.#countExempt(delivery, 1);
  }

  /** Counts a delivery in the prefetch again. */
  rejoin(delivery: InFlightDelivery): void {
    if (delivery.exempt) this.#countExempt(delivery, -1);
  }

  #countExempt(delivery: InFlightDelivery, by: 1 | -1): void {
    delivery.exempt = by > 0;
    this.#exempt += by;
    this.#exemptBytes += by * delivery.bytes;
    this.#bytes -= by * delivery.bytes;
  }

  /** The most that {@link prefetch} ever is. */
  get maxPrefetch(): number {
    return this.#mostCounted + this.#mostExempt.messages;
  }

  /** The most unsettled deliveries to have. */
  prefetch(): number {
    return this.#size.size(this.#concurrency(), this.#bytes) + this.#exempt;
  }

  /**
   * Widens a prefetch that is full while handlers are free. Deliveries of busy keys fill it then, and deliveries of other
   * keys would wait behind them on the broker.
   */
  widen(): void {
    for (let prefetch = this.prefetch(); this.#deliveries.size >= prefetch; prefetch = this.prefetch()) {
      this.#size.starved();
      if (this.prefetch() <= prefetch) return;
    }
  }
}
