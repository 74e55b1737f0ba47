import type { Clock } from "../../../core/index.ts";
import { ask } from "../../../core/stores.ts";
import type { PostgresOutboxDatabase } from "./database.ts";
import { outboxFailure } from "./failure.ts";

/** Asks the database one statement, within a time of its own, and says what went wrong. */
export class Asking {
  readonly #database: PostgresOutboxDatabase;
  readonly #clock: Clock;
  readonly #timeoutMs: number;

  constructor(database: PostgresOutboxDatabase, clock: Clock, timeoutMs: number) {
    this.#database = database;
    this.#clock = clock;
    this.#timeoutMs = timeoutMs;
  }

  /** `late` gets the rows of an answer that came too late. */
  async rows<Row>(
    action: string,
    text: string,
    values?: unknown[],
    late?: (rows: readonly Row[]) => void,
  ): Promise<readonly Row[]> {
    const call = async () => (await this.#database.query(text, values)).rows as readonly Row[];
    const answer = await ask("outbox store", this.#clock, this.#timeoutMs, call, late);
    if ("value" in answer) return answer.value;
    throw outboxFailure(action, answer.error);
  }
}
