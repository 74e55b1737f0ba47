import type { Outcome } from "./outcome.ts";

/** Header names and values. An object without a prototype, so that no name is special. */
export type MessageHeaders = Readonly<Record<string, string>>;

/**
 * One delivery of one message to one handler. `Native` is the client library's own message.
 */
export interface Delivery<Native = unknown> {
  /** The message's id: the same over retries, replays and moves between brokers. */
  readonly id: string;
  /** What order is kept by, if the message has a key. */
  readonly key: string | undefined;
  /** What subscriptions filter by, if it was published with one. */
  readonly routingKey: string | undefined;
  /** The publisher's headers. A copy of this delivery's own: changing it changes nothing elsewhere. */
  readonly headers: Record<string, string>;
  /** 1 for the first start of a handler on this message; one more for each later one. */
  readonly attempt: number;
  /** When the message was first handed to `send` or `publish`, over all retries and replays. */
  readonly firstPublishedAt: Date;
  /** The queue's name, or the topic's. */
  readonly destination: string;
  /** The subscription's name; undefined on a queue. */
  readonly subscription: string | undefined;
  /**
   * Aborted when the handler's work is no longer wanted: its deadline passed, the delivery's lease or connection was
   * lost (another consumer may have it already), or a stop reached its deadline. The reason is a `MessagingError`.
   */
  readonly signal: AbortSignal;
  /**
   * When the handler's time is over: the consumer's `timeoutMs` after it was given the message. Middleware and reading the
   * body are in it. A lease or connection that is lost ends it earlier; `signal` tells.
   */
  readonly deadlineAt: Date;
  /** How long that is from now, in milliseconds of the broker's clock; 0 when it is over. */
  readonly remainingMs: number;
  /** The client library's own message. Reading is safe; settling it is not. */
  readonly native: Native;
}

/** What a handler may return: nothing for success, or an outcome from `retry()`, `postpone()` or `deadLetter()`. */
// biome-ignore lint/suspicious/noConfusingVoidType: a handler that returns nothing has the return type void
export type HandlerResult = void | undefined | Outcome;

/**
 * Handles one message. Returning means it is done and leaves the broker; throwing means it is tried again by the retry
 * policy, then dead-lettered; `retry()`, `postpone()` and `deadLetter()` choose explicitly.
 */
export type Handler<Body, Native = unknown> = (
  body: Body,
  delivery: Delivery<Native>,
) => HandlerResult | Promise<HandlerResult>;

/**
 * Wraps a handler: `(next) => async (body, delivery) => { …; return next(body, delivery) }`. It must pass on what `next`
 * returns or throws unless it means to change the outcome. The first in a list is the outermost. `Body` is what it reads of
 * the body: one that looks into bodies is taken only by consumers of such bodies.
 */
export type Middleware<Body = unknown> = (next: Handler<unknown>) => Handler<Body>;
