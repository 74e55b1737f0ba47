import type { Clock } from "../../../core/clock.ts";
import type { MessagingError } from "../../../core/errors.ts";

const EVERY_MS = 30_000;

/** Tells people about troubles that repeat: each kind at once, and then every 30 s for as long as it lasts. */
export class Notices {
  readonly #clock: Clock;
  readonly #notice: (error: MessagingError) => void;
  readonly #told = new Map<string, number>();

  constructor(clock: Clock, notice: (error: MessagingError) => void) {
    this.#clock = clock;
    this.#notice = notice;
  }

  tell(kind: string, error: MessagingError): void {
    const now = this.#clock.monotonic();
    const last = this.#told.get(kind);
    if (last !== undefined && now - last < EVERY_MS) return;
    this.#told.set(kind, now);
    this.#notice(error);
  }
}
