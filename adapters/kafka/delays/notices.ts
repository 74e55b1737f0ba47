import type { Clock } from "../../../core/clock.ts";
import type { MessagingError } from "../../../core/errors.ts";

const EVERY_MS = 30_000;

interface Trouble {
  since: number;
  toldAt: number;
}

/** Tells people about troubles that repeat: each kind every 30 s at most, for as long as it lasts. */
export class Notices {
  readonly #clock: Clock;
  readonly #notice: (error: MessagingError) => void;
  readonly #troubles = new Map<string, Trouble>();

  constructor(clock: Clock, notice: (error: MessagingError) => void) {
    this.#clock = clock;
    this.#notice = notice;
  }

  /** There is trouble. With patience it is told if it lasted for so many milliseconds. */
  tell(kind: string, error: MessagingError, patienceMs = 0): void {
    const now = this.#clock.monotonic();
    const trouble = this.#troubles.get(kind) ?? { since: now, toldAt: Number.NEGATIVE_INFINITY };
    this.#troubles.set(kind, trouble);
    trouble.since = Math.min(trouble.since, now);
    if (now - trouble.since < patienceMs || now - trouble.toldAt < EVERY_MS) return;
    trouble.toldAt = now;
    this.#notice(error);
  }

  /** That trouble is over; patience begins anew. */
  over(kind: string): void {
    const trouble = this.#troubles.get(kind);
    if (trouble !== undefined) trouble.since = Number.POSITIVE_INFINITY;
  }
}
