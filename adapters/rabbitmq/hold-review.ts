import type { MessagingError } from "../../core/errors.ts";
import { type HoldLimit, heldTooLong, longestHoldMs, longestWaitMs } from "./hold-limit.ts";

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
export interface ReviewActions<Delivery, Token> {
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
