import { createBroker } from "anybroker";
import { memory } from "anybroker/memory";
import { createOutbox } from "anybroker/outbox";
import { type PostgresOutbox, postgresOutbox } from "anybroker/outbox/postgres";
import type { Pool } from "pg";
import { freshQueue, ORDER } from "./body.ts";
import { type Comparison, median } from "./measure.ts";

/** Finished rows that are kept. Smaller for a trial of the benchmark itself. */
const ROWS = Number(process.env.BENCH_OUTBOX_ROWS ?? 10_000_000);
const FILLED_AT_ONCE = 500_000;
const KEPT_MS = 30 * 24 * 3_600_000;
const UNSENT = 2_000;
const CLAIM = 1_000;
const LEASE_MS = 30_000;
const CLAIMS = 100;

/** The time of a claim in an outbox with many finished rows, beside one with none. Asked is a ratio of 1.2, that is 1 / 1.2. */
export async function claimsBesideFinishedRows(pool: Pool): Promise<Comparison> {
  const empty = postgresOutbox(pool, { table: "outbox_empty", keepSentMs: KEPT_MS });
  const full = postgresOutbox(pool, { table: "outbox_full", keepSentMs: KEPT_MS });
  for (const store of [empty, full]) await store.migrate();
  await fillFinished(pool);
  for (const [store, table] of [[empty, "outbox_empty"] as const, [full, "outbox_full"] as const]) {
    await writeUnsent(pool, store);
    for (const ending of ["", "_shards", "_sent"]) await pool.query(`VACUUM ANALYZE ${table}${ending}`);
  }
  await pool.query("CHECKPOINT");
  return {
    title: `claim of ${CLAIM.toLocaleString("en")} rows beside ${ROWS.toLocaleString("en")} finished ones`,
    unit: "ms",
    better: "lower",
    target: 1 / 1.2,
    rounds: 15,
    theirs: { name: "no finished rows", run: () => claimMs(empty) },
    ours: { name: "anybroker/outbox", run: () => claimMs(full) },
  };
}

/** The median of many claims, each given back. */
async function claimMs(store: PostgresOutbox): Promise<number> {
  const times: number[] = [];
  for (let made = 0; made < CLAIMS; made++) {
    const begin = performance.now();
    const claim = await store.claim({ relay: "bench", limit: CLAIM, leaseMs: LEASE_MS });
    times.push(performance.now() - begin);
    if (claim === undefined) throw new Error("nothing was claimed");
    await store.settle(
      claim.token,
      claim.rows.map(({ position }) => ({ position, outcome: "released" as const })),
    );
  }
  return median(times);
}

async function writeUnsent(pool: Pool, store: PostgresOutbox): Promise<void> {
  const orders = freshQueue("claims");
  const writer = createOutbox({ store, broker: createBroker(memory()) });
  const client = await pool.connect();
  try {
    await client.query("BEGIN");
    await writer.sendMany(
      client,
      orders,
      Array.from({ length: UNSENT }, () => ({ body: ORDER })),
    );
    await client.query("COMMIT");
  } finally {
    client.release();
  }
}

/** As if they had been sent in the last hours. Their bodies are short: claims do not read them. */
async function fillFinished(pool: Pool): Promise<void> {
  for (let first = 1; first <= ROWS; first += FILLED_AT_ONCE) {
    const last = Math.min(first + FILLED_AT_ONCE - 1, ROWS);
    await pool.query(
      `INSERT INTO outbox_full_sent
         (position, shard, id, kind, destination, body, content_type, priority, ordered, discard_unroutable, sent_at)
       SELECT n, n % 64, 'id-' || n, 'queue', 'bench.claims', '\\x7b7d', 'application/json', 4, false, false,
         now() - (${ROWS} - n) * interval '1 millisecond'
       FROM generate_series($1::integer, $2::integer) AS n`,
      [first, last],
    );
    console.error(`… ${last.toLocaleString("en")} finished rows`);
  }
}
