import type { Clock } from "../../../core/clock.ts";
import type { MessagingError } from "../../../core/errors.ts";
import type { RecordSink } from "./contract.ts";

/** A member that goes on trying says so again within this time. */
const FAILED_FOR_MS = 15_000;

/** Whether a consumer is stalled, as far as its sink knows. */
export class Health {
  readonly #clock: Clock;
  readonly #sink: RecordSink;
  #stalled = false;
  #failedAt = Number.NEGATIVE_INFINITY;

  constructor(clock: Clock, sink: RecordSink) {
    this.#clock = clock;
    this.#sink = sink;
  }

  stalled(cause: MessagingError): void {
    this.#stalled = true;
    this.#sink.stalled(cause);
  }

  /** The member failed at something, and tries again. */
  failed(cause: MessagingError): void {
    this.#failedAt = this.#clock.monotonic();
    this.stalled(cause);
  }

  /** The coordinator did something for the member. */
  answered(): void {
    this.#failedAt = Number.NEGATIVE_INFINITY;
  }

  /** Records were handed out, which says all. */
  delivered(): void {
    this.#stalled = false;
  }

  /** Says that what stalled is over, if it was said to stall and nothing is known to fail any more. */
  check(failing: boolean): void {
    if (!this.#stalled || failing || this.#clock.monotonic() - this.#failedAt < FAILED_FOR_MS) return;
    this.#stalled = false;
    this.#sink.flowing?.();
  }
}
