import { MessagingError } from "../../core/errors.ts";
import { replyText } from "./errors.ts";
import { DEFAULT_CONSUMER_TIMEOUT_MS } from "./names.ts";
import type { ServerVersion } from "./server-version.ts";

/** How long RabbitMQ lets a consumer hold an unacknowledged delivery. */
export interface HoldLimit {
  readonly limitMs: number;
  /** Whether the consumer requests this limit; otherwise it is the server's setting, as far as it is known. */
  readonly isRequested: boolean;
}

/** The limit for a queue and its dead letters that the server named when it closed a consumer's channel. */
export interface LearnedLimit {
  ms: number | undefined;
}

/** What a consumer requests by default, because anybroker has its own deadlines: the longest time for a timer. */
const MAX_HOLD_MS = 2 ** 31 - 1;
/** A delivery is requeued at most this long before the limit, because attempts need a moment to end. */
const MAX_MARGIN_MS = 60_000;

/**
 * The limit for consumers of a queue. From 4.3 on, quorum queues take it from the consumer, before the server's
 * configuration and policies, and other queues have none. Before 4.3 it is the server's: the one it named when it
 * closed a channel (`learned`), or the option (`configured`), or RabbitMQ's default.
 */
export function holdLimit(
  version: ServerVersion,
  isQuorum: boolean,
  configured: number | undefined,
  learned: number | undefined,
): HoldLimit | undefined {
  if (!version.atLeast(4, 3))
    return { limitMs: learned ?? configured ?? DEFAULT_CONSUMER_TIMEOUT_MS, isRequested: false };
  return isQuorum ? { limitMs: configured ?? MAX_HOLD_MS, isRequested: true } : undefined;
}

/** How long a delivery is held before it is requeued. */
function maxHoldMs({ limitMs }: HoldLimit): number {
  return limitMs - Math.min(limitMs / 2, MAX_MARGIN_MS);
}

/**
 * How long a delivery may wait for a handler before it is requeued. It leaves the handler the time until its deadline,
 * unless that takes most of the limit.
 */
function maxWaitMs(limit: HoldLimit, handlerTimeoutMs: number): number {
  const longest = maxHoldMs(limit);
  return Math.max(longest - handlerTimeoutMs, longest / 4);
}

/** The consumer timeout for which the server closed a channel; undefined if there was another reason. */
export function consumerTimeoutIn(cause: unknown): number | undefined {
  const ms = /acknowledgement on channel \d+ timed out\. Timeout value used: (\d+) ms/.exec(replyText(cause))?.[1];
  return ms === undefined ? undefined : Number(ms);
}

/** The error for a handler that may run longer than the limit; undefined if it may not. */
export function handlerTooLong(
  queue: string,
  limit: HoldLimit | undefined,
  handlerTimeoutMs: number | undefined,
): MessagingError | undefined {
  if (limit === undefined || handlerTimeoutMs === undefined) return undefined;
  if (handlerTimeoutMs <= maxHoldMs(limit)) return undefined;
  return new MessagingError(
    "unsupported",
    `handlers of queue "${queue}" may run ${handlerTimeoutMs} ms (timeoutMs), and RabbitMQ takes deliveries back after ` +
      `${limit.limitMs} ms; ${advice(limit)}`,
  );
}

function overdueError(queue: string, limit: HoldLimit): MessagingError {
  return new MessagingError(
    "timeout",
    `a delivery of queue "${queue}" was held for ${maxHoldMs(limit)} ms, and RabbitMQ takes it back after ` +
      `${limit.limitMs} ms; ${advice(limit)}`,
  );
}

/** The notice that the server's limit differs from the assumed one. */
export function limitNotice(queue: string, limitMs: number, cause: unknown): MessagingError {
  return new MessagingError(
    "timeout",
    `RabbitMQ took back all deliveries of a consumer of queue "${queue}", because one was held longer than the consumer ` +
      `timeout of ${limitMs} ms; from now on they are requeued earlier. Raise consumer_timeout on the server, or ` +
      "the policy consumer-timeout",
    { cause },
  );
}

function advice({ isRequested }: HoldLimit): string {
  const raise = isRequested
    ? "raise consumerTimeoutMs of rabbitmq()"
    : "raise consumer_timeout on the server, and set the same value as consumerTimeoutMs of rabbitmq()";
  return `${raise}, or shorten timeoutMs of the handlers`;
}

/** An unsettled delivery, for the review. */
export interface Reviewed<Token> {
  readonly token: Token;
  /** Milliseconds on a monotonic clock. */
  readonly at: number;
  /** The last report to the engine: do not start a handler any more, or the delivery is overdue. */
  reported: "nothing" | "revoked" | "overdue";
}

/** The queue whose deliveries are reviewed. */
export interface ReviewedSource {
  readonly queue: string;
  readonly ordered: boolean;
  /** How long a handler may run; undefined if there is no handler. */
  readonly handlerTimeoutMs: number | undefined;
  /** How long deliveries may be held, as far as is known; undefined without a limit. */
  readonly hold: () => HoldLimit | undefined;
}

/** What to do with deliveries that are held almost as long as RabbitMQ allows. */
interface ReviewActions<Token> {
  /** Ordered queue: requeue everything unsettled to this consumer, as some is due. */
  renew(): void;
  /** Unordered queue: not enough time is left for a handler. */
  revoke(tokens: readonly Token[]): void;
  /** Unordered queue: RabbitMQ takes them back in a moment. */
  overdue(tokens: readonly Token[], cause: MessagingError): void;
  /** They were renewed and did not come back. */
  lost(tokens: readonly Token[]): void;
}

/** How long a renewed delivery may take to come back. */
const BACK_WITHIN_MS = 30_000;

/** Reviews the deliveries of one channel with one timer, and handles those that are held too long. */
export class HoldReview<Delivery extends Reviewed<Token>, Token> {
  readonly #from: ReviewedSource;
  /** Oldest first. */
  readonly #unsettled: Iterable<readonly [number, Delivery]>;
  readonly #returning: { readonly size: number; removeOlder(than: number): readonly Token[] };
  readonly #actions: ReviewActions<Token>;
  #timer: NodeJS.Timeout | undefined;
  #isOver = false;

  constructor(
    from: ReviewedSource,
    unsettled: Iterable<readonly [number, Delivery]>,
    returning: { readonly size: number; removeOlder(than: number): readonly Token[] },
    actions: ReviewActions<Token>,
  ) {
    this.#from = from;
    this.#unsettled = unsettled;
    this.#returning = returning;
    this.#actions = actions;
  }

  /** Schedules the next review, unless one is scheduled: in `ms`, or when a delivery that arrives now is due. */
  schedule(ms?: number): void {
    if (this.#timer !== undefined || this.#isOver) return;
    const hold = this.#from.hold();
    if (hold === undefined) return;
    const review = (): void => {
      this.#timer = undefined;
      this.#review(hold);
    };
    this.#timer = setTimeout(review, ms ?? this.#firstMs(hold));
    this.#timer.unref();
  }

  stop(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
  }

  /** How long a delivery is held before the first action. */
  #firstMs(hold: HoldLimit): number {
    const { ordered, handlerTimeoutMs } = this.#from;
    return ordered || handlerTimeoutMs === undefined ? maxHoldMs(hold) : maxWaitMs(hold, handlerTimeoutMs);
  }

  #review(hold: HoldLimit): void {
    // Timers may fire a moment early.
    const now = performance.now() + 1;
    const [first, longest] = [this.#firstMs(hold), maxHoldMs(hold)];
    const waited: Token[] = [];
    const due: Delivery[] = [];
    let next = Number.POSITIVE_INFINITY;
    for (const [, delivery] of this.#unsettled) {
      if (delivery.reported === "overdue") continue;
      const heldMs = now - delivery.at;
      if (heldMs >= longest) due.push(delivery);
      else if (heldMs < first) {
        next = Math.min(next, first - heldMs);
        break;
      } else {
        next = Math.min(next, longest - heldMs);
        if (delivery.reported === "nothing") waited.push(delivery.token);
        delivery.reported = "revoked";
      }
    }
    const late = this.#returning.removeOlder(now - BACK_WITHIN_MS);
    const { ordered, queue } = this.#from;
    if (ordered && this.#returning.size + due.length > 0) next = Math.min(next, longest, BACK_WITHIN_MS);
    if (next < Number.POSITIVE_INFINITY) this.schedule(next);
    if (late.length > 0) this.#actions.lost(late);
    if (waited.length > 0) this.#actions.revoke(waited);
    if (due.length === 0) return;
    if (ordered) {
      this.#actions.renew();
      return;
    }
    for (const delivery of due) delivery.reported = "overdue";
    this.#actions.overdue(
      due.map(({ token }) => token),
      overdueError(queue, hold),
    );
  }
}
