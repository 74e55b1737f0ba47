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
