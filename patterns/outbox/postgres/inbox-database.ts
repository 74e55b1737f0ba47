/** What the inbox needs of a pool of connections: the `Pool` of `pg` fits as it is. */
export interface PostgresInboxPool<Client extends PostgresInboxClient> {
  /** Lends a connection. */
  connect(): Promise<Client>;
}

/** A connection that a pool lent: the `PoolClient` of `pg` fits as it is, and is what handlers get. */
export interface PostgresInboxClient {
  /** Runs one statement, or without values several; resolves with the result, or an array of them. */
  query(text: string, values?: unknown[]): Promise<unknown>;
  /** Gives the connection back, or with `true` closes it. */
  release(close?: boolean): void;
  on(event: "error" | "notice", listener: (problem: { readonly code?: string | undefined }) => void): unknown;
  off(event: "error" | "notice", listener: (problem: { readonly code?: string | undefined }) => void): unknown;
}
