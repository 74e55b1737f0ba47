import type { Clock } from "../../../core/clock.ts";
import { MessagingError } from "../../../core/errors.ts";
import type { RecordSink } from "./assigned-partition.ts";

/** A member that goes on trying says so again within this time. */
const FAILED_FOR_MS = 15_000;
/** How soon the same is told again, of whichever partition. */
const AGAIN_AFTER_MS = 30_000;

/** The same trouble of several partitions. */
interface Trouble {
  readonly cause: MessagingError;
  others: number;
}

/**
 * Whether a consumer is stalled, as far as its sink knows. What many partitions have in common (`kind`) is told once, of the
 * first with the number of the others: as it comes in one turn, and a stall no sooner than 30 s after it was told last.
 */
export class Health {
  readonly #clock: Clock;
  readonly #sink: RecordSink;
  readonly #stalls = new Map<string, Trouble>();
  readonly #notices = new Map<string, Trouble>();
  readonly #toldAt = new Map<string, number>();
  #isDue = false;
  #stalled = false;
  #failedAt = Number.NEGATIVE_INFINITY;

  constructor(clock: Clock, sink: RecordSink) {
    this.#clock = clock;
    this.#sink = sink;
  }

  stalled(cause: MessagingError, kind?: string): void {
    if (kind !== undefined) {
      this.#gather(this.#stalls, cause, kind);
      return;
    }
    this.#stalled = true;
    this.#sink.stalled(cause);
  }

  notice(error: MessagingError, kind: string): void {
    this.#gather(this.#notices, error, kind);
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
    if (failing) return;
    this.#toldAt.clear();
    if (!this.#stalled || this.#clock.monotonic() - this.#failedAt < FAILED_FOR_MS) return;
    this.#stalled = false;
    this.#sink.flowing?.();
  }

  #gather(troubles: Map<string, Trouble>, cause: MessagingError, kind: string): void {
    const trouble = troubles.get(kind);
    if (trouble !== undefined) trouble.others++;
    else troubles.set(kind, { cause, others: 0 });
    if (this.#isDue) return;
    this.#isDue = true;
    queueMicrotask(() => this.#tell());
  }

  #tell(): void {
    this.#isDue = false;
    const [stalls, notices] = [[...this.#stalls], [...this.#notices.values()]];
    this.#stalls.clear();
    this.#notices.clear();
    for (const trouble of notices) this.#sink.notice(errorOf(trouble));
    const now = this.#clock.monotonic();
    for (const [kind, trouble] of stalls) {
      if (now - (this.#toldAt.get(kind) ?? Number.NEGATIVE_INFINITY) < AGAIN_AFTER_MS) continue;
      this.#toldAt.set(kind, now);
      this.stalled(errorOf(trouble));
    }
  }
}

function errorOf({ cause, others }: Trouble): MessagingError {
  if (others === 0) return cause;
  const partitions = others === 1 ? "another partition" : `${others} other partitions`;
  return new MessagingError(cause.code, `${cause.message} (the same of ${partitions})`, { cause });
}
