import { type Clock, systemClock, type Timer } from "../../../core/clock.ts";
import type { MessagingError } from "../../../core/errors.ts";
import { type PostgresDatabase, postgresFailure } from "../../../sql/postgres.ts";

/** What the store needs of a database, except to write messages. The `Pool` of `pg` fits. */
export interface PostgresOutboxDatabase extends PostgresDatabase {
  /** Lends a connection to listen with. Needed only for the option `notify`. */
  connect?(): Promise<PostgresListener>;
}

/**
 * A connection with the caller's open transaction. The `Client` and `PoolClient` of `pg` fit; query builders need an executor
 * of two lines. Each value is used once, in order, and is a text, number, boolean, `Buffer` or null.
 */
export interface PostgresTransaction {
  /** Runs one statement, with values for `$1`, `$2` and so on. */
  query(text: string, values?: unknown[]): Promise<unknown>;
}

/** A connection that a pool lent. The `PoolClient` of `pg` fits. */
export interface PostgresListener {
  query(text: string): Promise<unknown>;
  on(event: "notification" | "error" | "end", listener: (problem?: unknown) => void): unknown;
  off(event: "notification" | "error" | "end", listener: (problem?: unknown) => void): unknown;
  /** Gives the connection back, or closes it with `true`. */
  release(close?: boolean): void;
}

/** The store's name in messages. */
export const STORE = "outbox store";

/** Translates an error of the outbox's database. */
export function outboxFailure(action: string, error: unknown): MessagingError {
  return postgresFailure(STORE, action, error, {
    "25P02": { code: "conflict", advice: "the transaction failed before: roll it back" },
  });
}

const RECONNECT_MS = 1_000;

/** Listens for notifications on a connection, and reconnects. */
export class NotificationListener {
  readonly #database: PostgresOutboxDatabase;
  readonly #channel: string;
  readonly #wake: () => void;
  readonly #clock: Clock = systemClock();
  #connection: PostgresListener | undefined;
  #timer: Timer | undefined;
  #ended = false;

  constructor(database: PostgresOutboxDatabase, channel: string, wake: () => void) {
    this.#database = database;
    this.#channel = channel;
    this.#wake = wake;
  }

  /** Never rejects: it tries again later. */
  async begin(): Promise<void> {
    let connection: PostgresListener | undefined;
    try {
      connection = await this.#database.connect?.();
      if (connection === undefined) return;
      if (this.#ended) {
        connection.release();
        return;
      }
      this.#connection = connection;
      connection.on("notification", this.#wake);
      connection.on("error", this.#lost);
      connection.on("end", this.#lost);
      await connection.query(`LISTEN "${this.#channel}"`);
      // There may have been notifications before LISTEN.
      if (!this.#ended) this.#wake();
    } catch {
      if (connection === undefined) this.#beginLater();
      else this.#lost();
    }
  }

  /** A second call does nothing. */
  async end(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    if (this.#timer !== undefined) this.#clock.cancel(this.#timer);
    this.#close();
  }

  readonly #lost = (): void => {
    if (this.#connection === undefined) return;
    this.#close();
    this.#beginLater();
  };

  #beginLater(): void {
    if (!this.#ended) this.#timer = this.#clock.schedule(() => void this.begin(), RECONNECT_MS);
  }

  /** Closes the connection: the pool's next user must not get its notifications. */
  #close(): void {
    const connection = this.#connection;
    this.#connection = undefined;
    if (connection === undefined) return;
    connection.off("notification", this.#wake);
    connection.off("end", this.#lost);
    // The listener of errors stays: a late error without a listener would end the process.
    connection.release(true);
  }
}
