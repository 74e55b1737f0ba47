import type { DeliveryToken, IncomingMessage } from "../adapter.ts";
import type { Clock, Timer } from "../clock.ts";
import type { Deadline, Expiring } from "../deadlines.ts";
import type { Delivery } from "../delivery.ts";
import type { MessagingError } from "../errors.ts";
import { HEADER, numberHeader, publishedAt, userHeaders } from "../system-headers.ts";
import type { ConsumerContext } from "./consumer-context.ts";

const MEASURE_MS = 100;
/** How much work, in time, waits in memory beyond what runs: enough to cover a round trip to the broker. */
const BUFFER_MS = 50;
/** A larger change than this is worth telling the broker. */
const GROW_BY = 1.5;
const SHRINK_BY = 4;

/**
 * How many unsettled deliveries to ask for: what runs, plus what the handlers get through in a short time (Little's
 * law), so that quick handlers never wait for the broker and slow ones do not hoard what other consumers could do.
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

  /** Counts one delivery done with. */
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

  /**
   * Handlers are free, and all that is held waits for its turn: a few keys fill the prefetch, and what the others could
   * do stands behind it.
   */
  starved(): void {
    this.#starved = true;
    this.#wanted = Math.min(this.#wanted * 2, this.#most);
  }

  /** Learns the size of a body. */
  arrived(bytes: number): void {
    this.#bytesPerMessage = this.#bytesPerMessage === 0 ? bytes : this.#bytesPerMessage * 0.9 + bytes * 0.1;
  }

  /** The prefetch for this concurrency while so many bytes are held; 0 while they are over the limit. */
  size(concurrency: number, heldBytes: number): number {
    if (heldBytes >= this.#maxBytes) return 0;
    const byCount = Math.min(Math.max(this.#wanted, concurrency), this.#most);
    if (this.#bytesPerMessage * byCount <= this.#maxBytes) return byCount;
    // A power of two, so that a drifting average does not tell the broker a new prefetch with every message.
    return Math.max(1, 2 ** Math.floor(Math.log2(this.#maxBytes / this.#bytesPerMessage)));
  }
}

/**
 * Where a delivery stands:
 * `waiting` for a handler; `quarantined` until it may start; `running`; `resting` until its next attempt in place; `copying`
 * until its copy (to retry or the dead letters) is confirmed; `parked` until something takes its dead letter; `settling`;
 * `settled`.
 */
type HeldState = "waiting" | "quarantined" | "running" | "resting" | "copying" | "parked" | "settling" | "settled";

const IDLE: readonly HeldState[] = ["waiting", "quarantined", "resting", "parked"];

/** A delivery that the engine holds, from the adapter's hand until it is settled or lost. */
export class InFlightDelivery implements Expiring {
  deadline: Deadline | undefined = undefined;
  readonly incoming: IncomingMessage;
  /** The order of arrival in this consumer. */
  readonly sequence: number;
  state: HeldState = "waiting";
  /** 1 for the first attempt: failures and crashes before it count, as far as they are known; redeliveries do not. */
  attempt: number;
  /** ISO time of the first failed attempt known. */
  firstFailedAt: string | undefined;
  /** No longer ours: settling it would be answered `fenced`. */
  lost = false;
  /** Asked back: it is not to wait here for another attempt. */
  revoked = false;
  /** Held beside the prefetch: the broker refuses its copies, or it is quarantined. */
  aside = false;
  /** How many consumers crashed while they ran it, once that was looked for. */
  crashes: number | undefined = undefined;
  /** The attempt under way. */
  current: Attempt | undefined = undefined;
  /** Wakes it for its next attempt in place, or for the next try at a copy. */
  rest: Timer | undefined = undefined;
  readonly #receivedAt: number;
  readonly #onExpire: (held: InFlightDelivery) => void;

  /** `receivedAt` is in milliseconds since 1970. */
  constructor(
    incoming: IncomingMessage,
    sequence: number,
    receivedAt: number,
    onExpire: (held: InFlightDelivery) => void,
  ) {
    this.incoming = incoming;
    this.sequence = sequence;
    this.#receivedAt = receivedAt;
    this.attempt = 1 + this.recorded;
    this.firstFailedAt = incoming.headers[HEADER.firstFailedAt];
    this.#onExpire = onExpire;
  }

  /** Attempts made on earlier copies. */
  get recorded(): number {
    return numberHeader(this.incoming.headers, HEADER.attempts, 0);
  }

  /**
   * When it was first published, in milliseconds since 1970: as its headers or its id say, else as its sender or its broker
   * do, but not in the future; else when it came here.
   */
  get firstPublishedAt(): number {
    const { headers, id, sentAt } = this.incoming;
    return publishedAt(headers, id) ?? Math.min(sentAt ?? this.#receivedAt, this.#receivedAt);
  }

  get bytes(): number {
    return this.incoming.body.length;
  }

  /** Whether nothing is done with it at present. */
  get isIdle(): boolean {
    return IDLE.includes(this.state);
  }

  /** Whether a consumer crashed while it ran it: whose fault that was is seen only if nothing runs beside it. */
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

  /** Takes back the timer of a rest, if it rests. */
  cancelRest(clock: Clock): void {
    if (this.rest !== undefined) clock.cancel(this.rest);
    this.rest = undefined;
  }

  expire(): void {
    this.#onExpire(this);
  }
}

/** No `Date` can hold more: https://tc39.es/ecma262/#sec-time-values-and-time-range */
const LAST_DATE = 8.64e15;

/** Whose attempt it is. */
type Whose = Pick<ConsumerContext, "destination" | "subscription" | "clock" | "timeoutMs">;

/** What the engine keeps of an attempt. Handlers are given its delivery, and get at nothing of the rest. */
export class Attempt {
  readonly delivery: Delivery;
  /** The engine has left the handler behind: what it still does or says changes nothing. */
  abandoned = false;
  #controller: AbortController | undefined = undefined;
  #abortReason: MessagingError | undefined = undefined;

  /** `startedAt` is the time of day at which it begins. */
  constructor(held: InFlightDelivery, whose: Whose, startedAt: number) {
    this.delivery = new AttemptDelivery(held, whose, startedAt, this);
  }

  /** Made when it is first asked for: most handlers never do. */
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

/** What a handler sees of a held delivery, during one attempt. */
class AttemptDelivery implements Delivery {
  readonly attempt: number;
  readonly destination: string;
  readonly subscription: string | undefined;
  readonly #held: InFlightDelivery;
  readonly #startedAt: number;
  readonly #attempt: Attempt;
  readonly #clock: Clock;
  readonly #timeoutMs: number;
  /** By the monotonic clock. */
  readonly #endsAt: number;
  #headers: Record<string, string> | undefined = undefined;

  constructor(
    held: InFlightDelivery,
    { destination, subscription, clock, timeoutMs }: Whose,
    startedAt: number,
    attempt: Attempt,
  ) {
    this.#held = held;
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
    this.#endsAt = clock.monotonic() + timeoutMs;
    this.#startedAt = startedAt;
    this.#attempt = attempt;
    this.attempt = held.attempt;
    this.destination = destination;
    this.subscription = subscription?.address.name;
  }

  get id(): string {
    return this.#held.incoming.id;
  }

  get key(): string | undefined {
    return this.#held.incoming.key;
  }

  get routingKey(): string | undefined {
    return this.#held.incoming.routingKey;
  }

  get headers(): Record<string, string> {
    this.#headers ??= userHeaders(this.#held.incoming.headers);
    return this.#headers;
  }

  get firstPublishedAt(): Date {
    return new Date(this.#held.firstPublishedAt);
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
    return this.#held.incoming.native;
  }
}

/** Every delivery that a consumer holds, and the prefetch that follows from them. */
export class InFlightDeliveries {
  readonly #held = new Set<InFlightDelivery>();
  readonly #size: Prefetch;
  readonly #clock: Clock;
  readonly #concurrency: () => number;
  readonly #onExpire: (held: InFlightDelivery) => void;
  readonly #mostAside: { readonly messages: number; readonly bytes: number };
  /** Of those that count in the prefetch. */
  #bytes = 0;
  #aside = 0;
  #asideBytes = 0;
  #sequence = 0;

  /** `onExpire` is called when the deadline of an attempt has passed. */
  constructor(context: ConsumerContext, concurrency: () => number, onExpire: (held: InFlightDelivery) => void) {
    this.#concurrency = concurrency;
    this.#onExpire = onExpire;
    this.#clock = context.clock;
    this.#mostAside = { messages: context.maxParked, bytes: context.prefetchBytes };
    this.#size = new Prefetch(context.clock, context.concurrency, context.prefetchMessages, context.prefetchBytes);
  }

  get size(): number {
    return this.#held.size;
  }

  [Symbol.iterator](): Iterator<InFlightDelivery> {
    return this.#held[Symbol.iterator]();
  }

  /** How many wait for a handler, or for their next attempt. */
  waiting(): number {
    return this.#count(({ state }) => state === "waiting" || state === "resting");
  }

  quarantined(): number {
    return this.#count(({ state }) => state === "quarantined");
  }

  #count(counts: (held: InFlightDelivery) => boolean): number {
    let count = 0;
    for (const held of this.#held) if (counts(held)) count++;
    return count;
  }

  /** Whether any is being copied. */
  copying(): boolean {
    for (const { state } of this.#held) if (state === "copying") return true;
    return false;
  }

  /** Those that are still ours to settle. */
  owned(): readonly InFlightDelivery[] {
    const owned: InFlightDelivery[] = [];
    for (const held of this.#held) if (held.state !== "settling" && !held.lost) owned.push(held);
    return owned;
  }

  /** Those with these tokens, or all of them, that are still ours. */
  chosen(tokens: readonly DeliveryToken[] | "all"): readonly InFlightDelivery[] {
    const wanted = tokens === "all" ? undefined : new Set(tokens);
    return [...this.#held].filter((held) => !held.lost && (wanted?.has(held.incoming.token) ?? true));
  }

  add(incoming: IncomingMessage): InFlightDelivery {
    const held = new InFlightDelivery(incoming, this.#sequence++, this.#clock.now(), this.#onExpire);
    this.#held.add(held);
    this.#bytes += held.bytes;
    this.#size.arrived(held.bytes);
    return held;
  }

  /** Lets go of one; a second call does nothing. */
  remove(held: InFlightDelivery): void {
    if (!this.#held.delete(held)) return;
    held.state = "settled";
    this.rejoin(held);
    this.#bytes -= held.bytes;
    this.#size.finished(this.#concurrency());
  }

  /** It no longer counts in the prefetch, unless as many do not already as may. */
  setAside(held: InFlightDelivery): void {
    const { messages, bytes } = this.#mostAside;
    if (held.aside || this.#aside >= messages || this.#asideBytes + held.bytes > bytes) return;
    this.#countAside(held, 1);
  }

  /** It counts in the prefetch again. */
  rejoin(held: InFlightDelivery): void {
    if (held.aside) this.#countAside(held, -1);
  }

  #countAside(held: InFlightDelivery, by: 1 | -1): void {
    held.aside = by > 0;
    this.#aside += by;
    this.#asideBytes += by * held.bytes;
    this.#bytes -= by * held.bytes;
  }

  /** The most deliveries to hold. */
  prefetch(): number {
    return this.#size.size(this.#concurrency(), this.#bytes) + this.#aside;
  }

  /**
   * Handlers are free, and keys that wait for their turn may fill the prefetch: what the others could do would stand behind it
   * for as long, since nothing ends and nothing comes that would widen it.
   */
  widen(): void {
    for (let prefetch = this.prefetch(); this.#held.size >= prefetch; prefetch = this.prefetch()) {
      this.#size.starved();
      if (this.prefetch() <= prefetch) return;
    }
  }
}
