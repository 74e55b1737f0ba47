import { type Clock, isMessagingError, MessagingError } from "../../../core/index.ts";
import type { Asking } from "./asking.ts";
import { LANES } from "./lanes.ts";
import type { Statements } from "./statements.ts";

/** How often it is looked for lanes that are missing, in milliseconds. */
const EVERY_MS = 10_000;

/**
 * Makes lanes again that somebody deleted, and those of rows that others wrote into lanes of their own: what has no lane is
 * never claimed.
 */
export class LaneWatch {
  readonly #asking: Asking;
  readonly #statements: Statements;
  readonly #clock: Clock;
  #dueAt = 0;

  constructor(asking: Asking, statements: Statements, clock: Clock) {
    this.#asking = asking;
    this.#statements = statements;
    this.#clock = clock;
  }

  get isDue(): boolean {
    return this.#clock.monotonic() >= this.#dueAt;
  }

  /** Lets the next claim look. */
  wake(): void {
    this.#dueAt = 0;
  }

  /**
   * Whether it made any. Rejects with `conflict` if there is no lane at all, and the role may not make them; of single ones
   * the health tells.
   */
  async look(): Promise<boolean> {
    const { missingLanes, makeLanes } = this.#statements;
    this.#dueAt = this.#clock.monotonic() + EVERY_MS;
    const missing = await this.#asking.rows("look for its lanes", missingLanes);
    if (missing.length === 0) return false;
    try {
      await this.#asking.rows("make its lanes again", makeLanes);
      return true;
    } catch (cause) {
      if (!isMessagingError(cause, "unauthorized")) throw cause;
      if (missing.length < LANES) return false;
      this.wake();
      throw new MessagingError(
        "conflict",
        "the outbox store's Postgres gives no claims: the table that ends with _lanes is empty, and the role may not fill it. Call migrate() as the tables' owner, or grant the role INSERT on it",
        { cause },
      );
    }
  }
}
