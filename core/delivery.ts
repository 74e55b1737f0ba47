import { MessagingError } from "./errors.ts";

/** Header names and values. An object without a prototype, so that no name is special. */
export type MessageHeaders = Readonly<Record<string, string>>;

/** One delivery of one message to one handler. `Native` is the client library's own message. */
export interface Delivery<Native = unknown> {
  /** The message's id: the same over retries, replays and moves between brokers. */
  readonly id: string;
  /** The key that order is kept by, if the message has one. */
  readonly key: string | undefined;
  /** The key that subscriptions filter by, if the message has one. */
  readonly routingKey: string | undefined;
  /** The publisher's headers. A copy for this delivery: changes to it have no effect elsewhere. */
  readonly headers: Record<string, string>;
  /** Counts the attempts on this message: 1 for the first start of a handler. */
  readonly attempt: number;
  /** When the message was first handed to `send` or `publish`, over all retries and replays. */
  readonly firstPublishedAt: Date;
  /** The queue's name, or the topic's. */
  readonly destination: string;
  /** The subscription's name; undefined on a queue. */
  readonly subscription: string | undefined;
  /**
   * Aborted when the handler's work is no longer wanted: its deadline passed, a stop reached its deadline, or the lease or
   * connection was lost, so that another consumer may have the message. The reason is a `MessagingError`.
   */
  readonly signal: AbortSignal;
  /**
   * When the handler's time is over: `timeoutMs` after the start of the attempt, with middleware and reading the body. A
   * lost lease or connection ends it earlier; see `signal`.
   */
  readonly deadlineAt: Date;
  /** The time until then, in milliseconds of the broker's clock; 0 when it is over. */
  readonly remainingMs: number;
  /** The client library's own message. Read it, but do not settle it. */
  readonly native: Native;
}

/** A handler returns nothing for success, or an outcome from `retry()`, `postpone()` or `deadLetter()`. */
// biome-ignore lint/suspicious/noConfusingVoidType: a handler that returns nothing has the return type void
export type HandlerResult = void | undefined | Outcome;

/**
 * Handles one message. If it returns, the message is done and leaves the broker. If it throws, the message is tried again
 * by the retry policy, then dead-lettered. `retry()`, `postpone()` and `deadLetter()` choose explicitly.
 */
export type Handler<Body, Native = unknown> = (
  body: Body,
  delivery: Delivery<Native>,
) => HandlerResult | Promise<HandlerResult>;

/**
 * Wraps a handler: `(next) => async (body, delivery) => { …; return next(body, delivery) }`. To keep the outcome, pass on
 * what `next` returns or throws. The first in a list is the outermost. `Body` is the type of the bodies that it reads:
 * only consumers of such bodies take it.
 */
export type Middleware<Body = unknown> = (next: Handler<unknown>) => Handler<Body>;

const OUTCOME = Symbol.for("anybroker.outcome");

const DEFAULT_POSTPONE_MS = 1_000;

/** An explicit result of a handler; made by {@link retry}, {@link postpone} and {@link deadLetter}. */
export type Outcome = RetryOutcome | PostponeOutcome | DeadLetterOutcome;

export interface RetryOutcome {
  readonly [OUTCOME]: "retry";
  readonly afterMs: number | undefined;
}

export interface PostponeOutcome {
  readonly [OUTCOME]: "postpone";
  readonly afterMs: number;
}

export interface DeadLetterOutcome {
  readonly [OUTCOME]: "dead-letter";
  readonly reason: string;
}

/**
 * Return it from a handler to have the message tried again, `afterMs` milliseconds later and never earlier. Default: the
 * delay of the retry policy. It counts as a failed attempt: after the policy's last one the message is dead-lettered.
 */
export function retry(options: { readonly afterMs?: number } = {}): RetryOutcome {
  const { afterMs } = options;
  if (afterMs !== undefined) checkAfter("retry", afterMs);
  return { [OUTCOME]: "retry", afterMs };
}

/**
 * Return it from a handler to have the message delivered again, `afterMs` milliseconds later and never earlier, without
 * using up an attempt. Default 1,000. Use it when the message is not at fault, such as when a dependency is down. On an
 * ordered destination its key waits; on others the message falls behind later ones.
 */
export function postpone(options: { readonly afterMs?: number } = {}): PostponeOutcome {
  const { afterMs = DEFAULT_POSTPONE_MS } = options;
  checkAfter("postpone", afterMs);
  return { [OUTCOME]: "postpone", afterMs };
}

/** Return it from a handler to dead-letter the message at once, with this reason. */
export function deadLetter(reason: string): DeadLetterOutcome {
  if (typeof reason !== "string" || reason === "") {
    throw new MessagingError("invalid", "deadLetter(reason) takes a text that explains why");
  }
  return { [OUTCOME]: "dead-letter", reason };
}

function checkAfter(what: string, afterMs: number): void {
  if (Number.isFinite(afterMs) && afterMs >= 0) return;
  throw new MessagingError("invalid", `${what}({ afterMs }) takes a number of milliseconds from 0 up, not ${afterMs}`);
}

/** The kind of outcome a handler returned, or undefined for anything else. */
export function outcomeKind(value: unknown): Outcome[typeof OUTCOME] | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  return (value as Partial<Outcome>)[OUTCOME];
}
