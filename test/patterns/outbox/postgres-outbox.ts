import type { Pool, PoolClient } from "pg";
import { memory } from "../../../adapters/memory/index.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { queue } from "../../../core/destination.ts";
import { createOutbox, type Outbox } from "../../../patterns/outbox/create-outbox.ts";
import {
  type PostgresOutbox,
  type PostgresOutboxOptions,
  type PostgresTransaction,
  postgresOutbox,
} from "../../../patterns/outbox/postgres/index.ts";
import type { OutboxClaim, OutboxRow } from "../../../patterns/outbox/store.ts";

export const LONG_MS = 600_000;

/** An order of a key. */
export interface Step {
  readonly key: string;
  readonly step: number;
}

/** What is written in the tests: in order by key. */
export const steps = queue<Step>("steps", { ordered: true, key: ({ key }) => key });

export interface Opened {
  readonly store: PostgresOutbox;
  readonly outbox: Outbox<PostgresTransaction>;
}

/** An outbox of its own in the database of the pool, with its tables. */
export async function openOutbox(pool: Pool, options: PostgresOutboxOptions): Promise<Opened> {
  const store = postgresOutbox(pool, options);
  await store.migrate();
  return { store, outbox: createOutbox({ store, broker: createBroker(memory()) }) };
}

/** Runs in a transaction, and commits it. */
export async function inTransaction<Result>(pool: Pool, run: (client: PoolClient) => Promise<Result>): Promise<Result> {
  const client = await pool.connect();
  try {
    await client.query("BEGIN");
    const result = await run(client);
    await client.query("COMMIT");
    return result;
  } catch (error) {
    await client.query("ROLLBACK");
    throw error;
  } finally {
    client.release();
  }
}

/** Writes steps, one by one, in a transaction of their own. */
export function writeSteps(pool: Pool, outbox: Outbox<PostgresTransaction>, written: readonly Step[]): Promise<void> {
  return inTransaction(pool, async (client) => {
    for (const step of written) await outbox.send(client, steps, step);
  });
}

export function bodyOf<Body = Step>({ body }: OutboxRow): Body {
  return JSON.parse(Buffer.from(body).toString()) as Body;
}

export function stepsOf(claim: OutboxClaim | undefined): readonly Step[] {
  return claim?.rows.map((row) => bodyOf(row)) ?? [];
}

/** Claims with a long lease. */
export function claimSome(store: PostgresOutbox, limit = 100, leaseMs = LONG_MS) {
  return store.claim({ relay: "test", limit, leaseMs });
}

/** Settles every row of a claim as sent. */
export async function sendAll(store: PostgresOutbox, claim: OutboxClaim): Promise<readonly number[]> {
  return store.settle(
    claim.token,
    claim.rows.map(({ position }) => ({ position, outcome: "sent" })),
  );
}
