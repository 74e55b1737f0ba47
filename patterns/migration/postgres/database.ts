/**
 * What the store needs of a database: the `Pool` of `pg` fits as it is, and an executor of two lines for other clients.
 * Each call is a transaction of its own, at the isolation level `READ COMMITTED`.
 */
export interface PostgresDatabase {
  /** Runs one statement, with values for `$1`, `$2` and so on; resolves with its rows, their columns by name. */
  query(text: string, values?: unknown[]): Promise<{ readonly rows: readonly unknown[] }>;
}
