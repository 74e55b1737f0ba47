import type { Clock, MessagingError } from "../../../core/index.ts";
import { ask, type FailureReason, POSTGRES_REASONS, serverCode, storeFailure } from "../../../core/stores.ts";
import { DUPLICATE_TABLE, NEWER } from "./migrations.ts";

/**
 * What the store needs of a database for everything but writing messages: the `Pool` of `pg` fits as it is, and an executor
 * of two lines for other clients. Each call is a transaction of its own.
 */
export interface PostgresOutboxDatabase {
  /** Runs one statement, with values for `$1`, `$2` and so on; resolves with its rows, their columns by name. */
  query(text: string, values?: unknown[]): Promise<{ readonly rows: readonly unknown[] }>;
  /** Lends a connection to listen with; asked for only with the option `notify`. */
  connect?(): Promise<PostgresListener>;
}

/**
 * A connection with the caller's open transaction: the `Client` or `PoolClient` of `pg` fits as it is, and an executor of
 * two lines for the transactions of query builders. Each value is used once, in order, and is a text, number, boolean,
 * `Buffer` or null.
 */
export interface PostgresTransaction {
  /** Runs one statement, with values for `$1`, `$2` and so on. */
  query(text: string, values?: unknown[]): Promise<unknown>;
}

/** A connection that a pool lent: the `PoolClient` of `pg` fits as it is. */
export interface PostgresListener {
  query(text: string): Promise<unknown>;
  on(event: "notification" | "error" | "end", listener: (problem?: unknown) => void): unknown;
  off(event: "notification" | "error" | "end", listener: (problem?: unknown) => void): unknown;
  /** Gives the connection back, or with `true` closes it. */
  release(close?: boolean): void;
}

/** By SQLSTATE: https://www.postgresql.org/docs/current/errcodes-appendix.html */
export const REASONS: Readonly<Record<string, FailureReason>> = {
  ...POSTGRES_REASONS,
  "42501": {
    code: "unauthorized",
    advice: "grant the role what docs/outbox.md lists for what it does: write, relay or migrate",
  },
  "42P01": {
    code: "not-found",
    advice:
      "make its tables with migrate(), or name those that there are; without USAGE on their schema they are not seen",
  },
  "42703": { code: "conflict", advice: "its tables are others, or older: bring them up to date with migrate()" },
  [DUPLICATE_TABLE]: {
    code: "conflict",
    advice:
      "tables of its names are there, and no version is noted: somebody emptied or dropped the table that ends with _versions. Note the version that they have, as INSERT INTO …_versions (version) VALUES (1), or move them away, and migrate again",
  },
  [NEWER]: { code: "conflict", advice: "its tables were made by a newer anybroker: install that here too" },
  "25P02": { code: "conflict", advice: "the transaction has failed before: roll it back" },
};

/**
 * Says of a failed question to the database what went wrong and what to do. The cause keeps the database's own error, and
 * not what query builders wrap around it: that quotes the values, which are messages.
 */
export function outboxFailure(action: string, error: unknown): MessagingError {
  const cause = databaseError(error) ?? error;
  return storeFailure("outbox store", "Postgres", action, REASONS[serverCode(cause)], cause);
}

/** The first of an error and its causes that has a state. */
export function databaseError(error: unknown): unknown {
  for (let one = error; one instanceof Error; one = one.cause) if (/^[0-9A-Z]{5}$/.test(serverCode(one))) return one;
  return undefined;
}

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
