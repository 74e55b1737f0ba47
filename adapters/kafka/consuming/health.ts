import type { Clock } from "../../../core/clock.ts";
import { MessagingError } from "../../../core/errors.ts";
import type { RecordSink } from "./assigned-partition.ts";

/** A member that goes on trying says so again within this time. */
const FAILED_FOR_MS = 15_000;
/** How soon the same is told again, of whichever partition. */
const AGAIN_AFTER_MS = 30_000;

/** The same problem of several partitions. */
interface Problem {
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
  readonly #stalls = new Map<string, Problem>();
  readonly #notices = new Map<string, Problem>();
  readonly #reportedAt = new Map<string, number>();
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
    this.#reportedAt.clear();
    if (!this.#stalled || this.#clock.monotonic() - this.#failedAt < FAILED_FOR_MS) return;
    this.#stalled = false;
    this.#sink.flowing?.();
  }

  #gather(problems: Map<string, Problem>, cause: MessagingError, kind: string): void {
    const problem = problems.get(kind);
    if (problem !== undefined) problem.others++;
    else problems.set(kind, { cause, others: 0 });
    if (this.#isDue) return;
    this.#isDue = true;
    queueMicrotask(() => this.#report());
  }

  #report(): void {
    this.#isDue = false;
    const [stalls, notices] = [[...this.#stalls], [...this.#notices.values()]];
    this.#stalls.clear();
    this.#notices.clear();
    for (const problem of notices) this.#sink.notice(errorOf(problem));
    const now = this.#clock.monotonic();
    for (const [kind, problem] of stalls) {
      if (now - (this.#reportedAt.get(kind) ?? Number.NEGATIVE_INFINITY) < AGAIN_AFTER_MS) continue;
      this.#reportedAt.set(kind, now);
      this.stalled(errorOf(problem));
    }
  }
}

function errorOf({ cause, others }: Problem): MessagingError {
  if (others === 0) return cause;
  const partitions = others === 1 ? "another partition" : `${others} other partitions`;
  return new MessagingError(cause.code, `${cause.message} (the same of ${partitions})`, { cause });
}
