/** What the inbox needs of a pool of connections: the `Pool` of `pg` fits as it is. */
export interface PostgresInboxPool<Client extends PostgresInboxClient> {
  /** Lends a connection. */
  connect(): Promise<Client>;
}

/** A pool that lends connections to callbacks too, as that of `pg`: the type of a connection is seen by this one. */
export interface CallbackPool<Client extends PostgresInboxClient> extends PostgresInboxPool<Client> {
  connect(): Promise<Client>;
  connect(callback: (error: never, client: Client | undefined, done: never) => void): void;
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
