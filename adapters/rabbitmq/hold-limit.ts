import { MessagingError } from "../../core/errors.ts";
import { replyText } from "./errors.ts";
import { DEFAULT_CONSUMER_TIMEOUT_MS } from "./names.ts";
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
function longestHoldMs({ limitMs }: HoldLimit): number {
  return limitMs - Math.min(limitMs / 2, LONGEST_MARGIN_MS);
}

/**
 * How long a delivery may wait for a handler before it is given back: then there is time for the handler's deadline to
 * pass, unless that takes most of the limit.
 */
function longestWaitMs(limit: HoldLimit, handlerTimeoutMs: number): number {
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

function heldTooLong(queue: string, limit: HoldLimit): MessagingError {
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

/** What is looked at of an unsettled delivery. */
export interface Reviewed<Token> {
  readonly token: Token;
  /** Milliseconds on a monotonic clock. */
  readonly at: number;
  /** What the engine was told of it: that it is not to wait for a handler any more, or that it is over. */
  told: "nothing" | "revoked" | "overdue";
}

/** What is looked at, and by what. */
export interface ReviewedSource {
  readonly queue: string;
  readonly ordered: boolean;
  /** How long a handler may run; undefined where there is none. */
  readonly handlerTimeoutMs: number | undefined;
  /** How long deliveries may be held, as far as is known by now; undefined where they may be while the connection lives. */
  readonly hold: () => HoldLimit | undefined;
}

/** What is done about deliveries that are held for about as long as RabbitMQ allows. */
interface ReviewActions<Delivery, Token> {
  /** Of an ordered queue. */
  renew(due: readonly Delivery[]): void;
  /** Of an unordered one: too little time would be left for a handler. */
  revoke(tokens: readonly Token[]): void;
  /** Of an unordered one: RabbitMQ takes them back within a moment. */
  overdue(tokens: readonly Token[], cause: MessagingError): void;
  /** They were renewed and did not come back. */
  lost(tokens: readonly Token[]): void;
}

/** How long a delivery that is renewed may take to come back. */
const BACK_WITHIN_MS = 30_000;

/** Looks at the deliveries of one channel, by one timer, and has something done about those that are held for too long. */
export class HoldReview<Delivery extends Reviewed<Token>, Token> {
  readonly #from: ReviewedSource;
  /** The oldest first. */
  readonly #unsettled: Iterable<readonly [number, Delivery]>;
  readonly #returning: { readonly size: number; removeOlder(than: number): readonly Token[] };
  readonly #actions: ReviewActions<Delivery, Token>;
  #timer: NodeJS.Timeout | undefined;
  /** When it looks next. */
  #at = Number.POSITIVE_INFINITY;
  #isOver = false;

  constructor(
    from: ReviewedSource,
    unsettled: Iterable<readonly [number, Delivery]>,
    returning: { readonly size: number; removeOlder(than: number): readonly Token[] },
    actions: ReviewActions<Delivery, Token>,
  ) {
    this.#from = from;
    this.#unsettled = unsettled;
    this.#returning = returning;
    this.#actions = actions;
  }

  /** Looks when the first time has come, of a delivery that comes now unless told otherwise. */
  later(ms?: number): void {
    if (this.#timer !== undefined || this.#isOver) return;
    const hold = this.#from.hold();
    if (hold === undefined) return;
    const look = (): void => {
      this.#timer = undefined;
      this.#look(hold);
    };
    const waitMs = ms ?? this.#firstMs(hold);
    this.#at = performance.now() + waitMs;
    this.#timer = setTimeout(look, waitMs);
    this.#timer.unref();
  }

  /** Something was given back by others than the review, and is to be missed if it does not come again. */
  expectBack(): void {
    if (this.#timer !== undefined && this.#at <= performance.now() + BACK_WITHIN_MS) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.later(BACK_WITHIN_MS);
  }

  stop(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
  }

  /** How long a delivery is held before something is done about it. */
  #firstMs(hold: HoldLimit): number {
    const { ordered, handlerTimeoutMs } = this.#from;
    return ordered || handlerTimeoutMs === undefined ? longestHoldMs(hold) : longestWaitMs(hold, handlerTimeoutMs);
  }

  #look(hold: HoldLimit): void {
    // Timers may fire a moment early.
    const now = performance.now() + 1;
    const [first, longest] = [this.#firstMs(hold), longestHoldMs(hold)];
    const waited: Token[] = [];
    const due: Delivery[] = [];
    let next = Number.POSITIVE_INFINITY;
    for (const [, delivery] of this.#unsettled) {
      if (delivery.told === "overdue") continue;
      const heldMs = now - delivery.at;
      if (heldMs >= longest) due.push(delivery);
      else if (heldMs < first) {
        next = Math.min(next, first - heldMs);
        break;
      } else {
        next = Math.min(next, longest - heldMs);
        if (delivery.told === "nothing") waited.push(delivery.token);
        delivery.told = "revoked";
      }
    }
    const late = this.#returning.removeOlder(now - BACK_WITHIN_MS);
    const { ordered, queue } = this.#from;
    if (ordered && this.#returning.size + due.length > 0) next = Math.min(next, longest, BACK_WITHIN_MS);
    if (next < Number.POSITIVE_INFINITY) this.later(next);
    if (late.length > 0) this.#actions.lost(late);
    if (waited.length > 0) this.#actions.revoke(waited);
    if (due.length === 0) return;
    if (ordered) {
      this.#actions.renew(due);
      return;
    }
    for (const delivery of due) delivery.told = "overdue";
    this.#actions.overdue(
      due.map(({ token }) => token),
      heldTooLong(queue, hold),
    );
  }
}
