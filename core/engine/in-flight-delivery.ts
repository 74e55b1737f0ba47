import type { IncomingMessage } from "../adapter.ts";
import type { Clock, Timer } from "../clock.ts";
import type { Delivery } from "../delivery.ts";
import type { MessagingError } from "../errors.ts";
import { HEADER, numberHeader, publishedAt, userHeaders } from "../system-headers.ts";
import type { ConsumerContext } from "./consumer-context.ts";
import type { Deadline, Expiring } from "./deadlines.ts";

/**
 * Where a delivery stands:
 * `waiting` for a handler; `quarantined` until it may start; `running`; `resting` until its next attempt in place; `copying`
 * until its copy (to retry or the dead letters) is confirmed; `parked` until something takes its dead letter; `settling`;
 * `settled`.
 */
export type HeldState =
  | "waiting"
  | "quarantined"
  | "running"
  | "resting"
  | "copying"
  | "parked"
  | "settling"
  | "settled";

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
