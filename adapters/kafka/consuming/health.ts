import type { Clock } from "../../../core/clock.ts";
import { MessagingError } from "../../../core/errors.ts";
import type { RecordSink } from "./assigned-partition.ts";

/** A member that keeps failing reports it within this time. */
const FAILED_FOR_MS = 15_000;
/** How long the same problem is not reported again, for any partition. */
const AGAIN_AFTER_MS = 30_000;

/** A problem that several partitions share. */
interface Problem {
  readonly cause: MessagingError;
  others: number;
}

/**
 * Tracks whether the sink knows the consumer as stalled. A problem that partitions share (`kind`) is reported once per
 * turn, with the number of partitions, and a stall at most every 30 s.
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

  /** The member failed and tries again. */
  failed(cause: MessagingError): void {
    this.#failedAt = this.#clock.monotonic();
    this.stalled(cause);
  }

  /** The coordinator answered the member. */
  answered(): void {
    this.#failedAt = Number.NEGATIVE_INFINITY;
  }

  /** Records were delivered, so the consumer flows. */
  delivered(): void {
    this.#stalled = false;
  }

  /** Reports the end of a stall once nothing fails any more. */
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
