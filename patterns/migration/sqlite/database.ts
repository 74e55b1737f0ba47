/** What the store needs of a database: the `DatabaseSync` of `node:sqlite` fits as it is. */
export interface SqliteDatabase {
  exec(sql: string): unknown;
  prepare(sql: string): SqliteStatement;
  /** Whether a transaction is open. */
  readonly isTransaction?: boolean;
}

/** A prepared statement. */
export interface SqliteStatement {
  get(...values: (string | number | null)[]): unknown;
  all(...values: (string | number | null)[]): unknown[];
  run(...values: (string | number | null)[]): { readonly changes: number | bigint };
}
