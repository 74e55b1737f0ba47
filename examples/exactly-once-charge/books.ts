import type { IdempotencyStore } from "anybroker/idempotency";
import type { Charge } from "./charges.ts";

/** A line of the ledger: one charge that was made. */
export interface Entry {
  readonly card: string;
  readonly cents: number;
  /** How often it was asked for. Only the first time did anything. */
  readonly requests: number;
}

/** Runs one statement, with values for `$1`, `$2` and so on. */
type Ask = (statement: string, values?: readonly (string | number)[]) => Promise<readonly unknown[]>;

/** A database with the ledger of a run, and with the claims of the middleware. */
export class Books {
  /** Where the middleware keeps its claims. */
  readonly claims: IdempotencyStore;
  /** Closes the connections. */
  readonly close: () => Promise<void>;
  readonly #ask: Ask;
  readonly #table: string;

  constructor(run: string, claims: IdempotencyStore, ask: Ask, close: () => Promise<void>) {
    this.claims = claims;
    this.close = close;
    this.#ask = ask;
    this.#table = `ledger_${run}`;
  }

  /** Makes the ledger. */
  async make(): Promise<void> {
    const columns =
      "idempotency_key text PRIMARY KEY, card text NOT NULL, cents integer NOT NULL, requests integer NOT NULL";
    await this.#ask(`CREATE TABLE ${this.#table} (${columns})`);
  }

  /**
   * What a payment provider does: charges the card once per idempotency key. To a second request with the key it says
   * that this is done, and does nothing; here it counts it as well.
   */
  async charge(idempotencyKey: string, { card, cents }: Charge): Promise<void> {
    await this.#ask(
      `INSERT INTO ${this.#table} (idempotency_key, card, cents, requests) VALUES ($1, $2, $3, 1)
       ON CONFLICT (idempotency_key) DO UPDATE SET requests = ${this.#table}.requests + 1`,
      [idempotencyKey, card, cents],
    );
  }

  /** How many charges were made. */
  async count(): Promise<number> {
    const [row] = await this.#ask(`SELECT count(*) AS charges FROM ${this.#table}`);
    return Number((row as { readonly charges: unknown }).charges);
  }

  async entries(): Promise<readonly Entry[]> {
    return (await this.#ask(`SELECT card, cents, requests FROM ${this.#table}`)) as readonly Entry[];
  }
}

/** Opens the books of a run: in Postgres if the place is a URL such as `postgres://user:password@host/database`, or in a file. */
export function openBooks(place: string, run: string): Promise<Books> {
  return /^postgres(ql)?:/.test(place) ? inPostgres(place, run) : inFile(place, run);
}

async function inPostgres(url: string, run: string): Promise<Books> {
  const { Pool } = await import("pg");
  const { postgresIdempotencyStore } = await import("anybroker/idempotency/postgres");
  const pool = new Pool({ connectionString: url, connectionTimeoutMillis: 5_000, query_timeout: 10_000 });
  // Of connections that break while nobody uses them: the pool makes others.
  pool.on("error", () => undefined);
  const claims = postgresIdempotencyStore(pool, { table: `claims_${run}` });
  await claims.migrate();
  const ask: Ask = async (statement, values = []) => (await pool.query(statement, [...values])).rows;
  return new Books(run, claims, ask, () => pool.end());
}

async function inFile(file: string, run: string): Promise<Books> {
  const { DatabaseSync } = await import("node:sqlite");
  const { sqliteIdempotencyStore } = await import("anybroker/idempotency/sqlite");
  const open = () => {
    const database = new DatabaseSync(file, { timeout: 5_000 });
    database.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL");
    return database;
  };
  // The store wants a connection of its own.
  const [ledger, claims] = [open(), open()];
  const ask: Ask = async (statement, values = []) =>
    ledger.prepare(statement).all(Object.fromEntries(values.map((value, index) => [`$${index + 1}`, value])));
  const close = async () => {
    ledger.close();
    claims.close();
  };
  return new Books(run, sqliteIdempotencyStore(claims, { table: `claims_${run}` }), ask, close);
}
