import { MessagingError } from "../../core/errors.ts";
import { replyText } from "./errors.ts";
import type { ServerVersion } from "./server-version.ts";

/** How long RabbitMQ lets a consumer hold a delivery. */
export interface HoldLimit {
  readonly limitMs: number;
  /** Whether the consumer asks for it itself; otherwise it is the server's setting, as far as it is known. */
  readonly isAsked: boolean;
}

/** What a server told of its limit for the consumers of a work queue and of its dead letters, when it closed a channel of one. */
export interface LearnedLimit {
  ms: number | undefined;
}

/** What a consumer asks for unless told otherwise: anybroker has deadlines of its own. The longest that a timer takes. */
const LONGEST_HOLD_MS = 2 ** 31 - 1;
/** RabbitMQ's own default. */
export const DEFAULT_CONSUMER_TIMEOUT_MS = 30 * 60 * 1000;
/** The longest time before the limit at which a delivery is given back: what is under way needs a moment to end. */
const LONGEST_MARGIN_MS = 60_000;

/**
 * The limit for consumers of a queue. From 4.3 on quorum queues take it from the consumer, whatever the server's
 * configuration and policies say, and no other kind of queue has one. Before, it is the server's: what it told when it
 * closed a channel (`learned`), or what people told (`told`), or its default.
 */
export function holdLimit(
  version: ServerVersion,
  isQuorum: boolean,
  told: number | undefined,
  learned: number | undefined,
): HoldLimit | undefined {
  if (!version.atLeast(4, 3)) return { limitMs: learned ?? told ?? DEFAULT_CONSUMER_TIMEOUT_MS, isAsked: false };
  return isQuorum ? { limitMs: told ?? LONGEST_HOLD_MS, isAsked: true } : undefined;
}

/** How long a delivery is held before it is given back. */
export function longestHoldMs({ limitMs }: HoldLimit): number {
  return limitMs - Math.min(limitMs / 2, LONGEST_MARGIN_MS);
}

/**
 * How long a delivery may wait for a handler before it is given back: then there is time for the handler's deadline to
 * pass, unless that takes most of the limit.
 */
export function longestWaitMs(limit: HoldLimit, handlerTimeoutMs: number): number {
  const longest = longestHoldMs(limit);
  return Math.max(longest - handlerTimeoutMs, longest / 4);
}

/** The consumer timeout for which the server closed a channel, if it was that. */
export function toldByServer(cause: unknown): number | undefined {
  const ms = /acknowledgement on channel \d+ timed out\. Timeout value used: (\d+) ms/.exec(replyText(cause))?.[1];
  return ms === undefined ? undefined : Number(ms);
}

/** Why a handler that may run so long is refused; undefined if it is not. */
export function tooLongToHold(
  queue: string,
  limit: HoldLimit | undefined,
  handlerTimeoutMs: number | undefined,
): MessagingError | undefined {
  if (limit === undefined || handlerTimeoutMs === undefined) return undefined;
  if (handlerTimeoutMs <= longestHoldMs(limit)) return undefined;
  return new MessagingError(
    "unsupported",
    `handlers of queue "${queue}" may run ${handlerTimeoutMs} ms (timeoutMs), and RabbitMQ takes deliveries back after ` +
      `${limit.limitMs} ms; ${advice(limit)}`,
  );
}

export function heldTooLong(queue: string, limit: HoldLimit): MessagingError {
  return new MessagingError(
    "timeout",
    `a delivery of queue "${queue}" was held for ${longestHoldMs(limit)} ms, and RabbitMQ takes it back after ` +
      `${limit.limitMs} ms; ${advice(limit)}`,
  );
}

/** What people are told when the server's limit is another than it was taken for. */
export function limitLearned(queue: string, limitMs: number, cause: unknown): MessagingError {
  return new MessagingError(
    "timeout",
    `RabbitMQ took back every delivery of a consumer of queue "${queue}", for one was held longer than its consumer ` +
      `timeout of ${limitMs} ms; from now on they are given back before that. Raise consumer_timeout on the server, or ` +
      "the policy consumer-timeout",
    { cause },
  );
}

function advice({ isAsked }: HoldLimit): string {
  const raise = isAsked
    ? "raise consumerTimeoutMs of rabbitmq()"
    : "raise consumer_timeout on the server and tell rabbitmq() by consumerTimeoutMs";
  return `${raise}, or let handlers take less time`;
}
