import { randomUUID } from "node:crypto";
import { checkInteger, checkOptions } from "../../../core/checks.ts";
import { type Clock, systemClock } from "../../../core/index.ts";
import { ask } from "../../../core/stores.ts";
import { wholeNumber } from "../../../sql/postgres.ts";
import type { ClaimResult, IdempotencyStore } from "../store.ts";
import type { PostgresDatabase } from "./database.ts";
import { failure } from "./failure.ts";
import { type Statements, statements } from "./statements.ts";
import { migration, type PostgresIdempotencyTableOptions, tableName } from "./table.ts";

/** The options of {@link postgresIdempotencyStore}. */
export interface PostgresIdempotencyStoreOptions extends PostgresIdempotencyTableOptions {
  /** Milliseconds after which a call that got no answer rejects with `unreachable`. Default 5,000. */
  readonly timeoutMs?: number;
}

/** A store in a Postgres database. */
export interface PostgresIdempotencyStore extends IdempotencyStore {
  /**
   * Makes the table unless it is there, also if many do at once. Only the first time it needs the right to create in the
   * schema. Rejects like the other calls, and with `not-found` if there is no such schema.
   */
  migrate(): Promise<void>;
}

const DEFAULT_TIMEOUT_MS = 5_000;

/**
 * A store in a Postgres database, with one statement to a call. Its time is the database server's.
 *
 * Give it a pool, never a client with an open transaction, whose rollback would take back the claim. The store never
 * ends the pool. A claim whose answer came too late is released when it comes. Throws `invalid` for wrong options.
 */
export function postgresIdempotencyStore(
  database: PostgresDatabase,
  options: PostgresIdempotencyStoreOptions = {},
): PostgresIdempotencyStore {
  checkOptions("postgresIdempotencyStore", options, ["table", "schema", "timeoutMs"]);
  const { timeoutMs = DEFAULT_TIMEOUT_MS } = options;
  checkInteger("postgresIdempotencyStore { timeoutMs }", timeoutMs, 1);
  return new PostgresStore(database, tableName("postgresIdempotencyStore", options), timeoutMs);
}

interface Standing {
  readonly status: ClaimResult["status"];
  /** In whole milliseconds, as a text. */
  readonly remaining: unknown;
}

class PostgresStore implements PostgresIdempotencyStore {
  readonly name = "postgres";
  readonly #database: PostgresDatabase;
  readonly #table: string;
  readonly #statements: Statements;
  readonly #timeoutMs: number;
  readonly #clock: Clock = systemClock();

  constructor(database: PostgresDatabase, table: string, timeoutMs: number) {
    this.#database = database;
    this.#table = table;
    this.#statements = statements(table);
    this.#timeoutMs = timeoutMs;
  }

  async migrate(): Promise<void> {
    await this.#ask("make the table", migration(this.#table));
  }

  async claim(key: string, leaseMs: number): Promise<ClaimResult> {
    const token = randomUUID();
    const late = ([row]: readonly unknown[]): void => {
      if ((row as Standing | undefined)?.status === "claimed") this.release(key, token).catch(() => undefined);
    };
    for (;;) {
      const rows = await this.#ask("take a claim", this.#statements.claim, [key, token, leaseMs], late);
      const [found] = rows as readonly Standing[];
      // Whoever was faster since the statement began is to be seen now.
      if (found === undefined) continue;
      if (found.status === "claimed") return { status: "claimed", token };
      return found.status === "done"
        ? { status: "done" }
        : { status: "busy", remainingMs: wholeNumber(found.remaining) };
    }
  }

  async renew(key: string, token: string, leaseMs: number): Promise<"renewed" | "lost"> {
    const rows = await this.#ask("renew a claim", this.#statements.renew, [key, token, leaseMs]);
    return rows.length > 0 ? "renewed" : "lost";
  }

  async complete(key: string, token: string, retentionMs: number): Promise<"completed" | "lost"> {
    const rows = await this.#ask("take a completion", this.#statements.complete, [key, token, retentionMs]);
    return rows.length > 0 ? "completed" : "lost";
  }

  async release(key: string, token: string): Promise<"released" | "lost"> {
    const rows = await this.#ask("take a release", this.#statements.release, [key, token]);
    return rows.length > 0 ? "released" : "lost";
  }

  async clean(limit: number): Promise<number> {
    const [row] = await this.#ask("clean up", this.#statements.clean, [limit]);
    return wholeNumber((row as { readonly removed: unknown }).removed);
  }

  async #ask(
    action: string,
    text: string,
    values?: unknown[],
    late?: (rows: readonly unknown[]) => void,
  ): Promise<readonly unknown[]> {
    const call = async () => (await this.#database.query(text, values)).rows;
    const answer = await ask("idempotency store", this.#clock, this.#timeoutMs, call, late);
    if ("value" in answer) return answer.value;
    throw failure(action, answer.error);
  }
}
