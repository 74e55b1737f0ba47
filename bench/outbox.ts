import { connect } from "amqplib";
import { createBroker, type Queue } from "anybroker";
import { createOutbox, createRelay } from "anybroker/outbox";
import { type PostgresOutbox, postgresOutbox } from "anybroker/outbox/postgres";
import { rabbitmq } from "anybroker/rabbitmq";
import { Pool, type PoolClient } from "pg";
import { startPostgres } from "../test/brokers/postgres.ts";
import { startRabbitMQ } from "../test/brokers/rabbitmq.ts";
import { freshQueue, ORDER, type Order } from "./body.ts";
import { type Comparison, type Contender, callsPerSecond } from "./measure.ts";
import { claimsBesideFinishedRows } from "./outbox-claims.ts";
import { amqplibAlone, pgBoss, pgTransactionalOutbox } from "./outbox-peers.ts";

const CONNECTIONS = 10;
const BATCH = 1_000;
const LEASE_MS = 30_000;
/** How many calls of the plain SQL that delete are under way at once: as many as of a relay. */
const DELETING_AT_ONCE = 2;
/** Smaller for a trial of the benchmark itself. */
const MESSAGES = Number(process.env.BENCH_OUTBOX_MESSAGES ?? 20_000);
const KEYS = 5_000;
const TABLE = "anybroker_outbox";

/** Compares, and is done with the database afterwards. */
type Run = (comparisons: readonly Comparison[]) => Promise<void>;

/** A database and a broker, and what is done with them. */
export interface Ground {
  readonly databaseUrl: string;
  readonly pool: Pool;
  readonly brokerUrl: string;
}

/** The outbox on Postgres, and a relay from there to RabbitMQ, all on one server and one broker. */
export async function outbox(run: Run): Promise<void> {
  const server = await startPostgres();
  const rabbit = await startRabbitMQ();
  try {
    // One of the peers can read the log in place of the table. It is so for everybody, since it costs something.
    if (server.controls !== undefined) {
      const admin = new Pool({ connectionString: server.url, max: 1 });
      await admin.query("ALTER SYSTEM SET wal_level = 'logical'");
      await admin.end();
      await server.controls.restart();
    }
    const place = await server.newDatabase();
    const pool = new Pool({ connectionString: place.url, max: CONNECTIONS });
    // The server ends what is left of the connections when the database is dropped.
    pool.on("error", () => {});
    try {
      const ground = { databaseUrl: place.url, pool, brokerUrl: rabbit.url };
      const store = postgresOutbox(pool);
      await store.migrate();
      await run(inserting(ground, store));
      await run(relaying(ground, store));
      await run(await besidePeers(ground, store));
      await run([await claimsBesideFinishedRows(pool)]);
      console.log(`Postgres ${server.version} (${server.how}), RabbitMQ ${rabbit.version} (${rabbit.how})`);
    } finally {
      await pool.end();
      await place.remove();
    }
  } finally {
    await rabbit.stop();
    await server.stop();
  }
}

/** What a message costs its writer, commit included, for transactions of one and of a hundred. */
function inserting(ground: Ground, store: PostgresOutbox): readonly Comparison[] {
  return [1, 100].map((each) => ({
    title: `outbox.send, ${each === 1 ? "one" : each} to a transaction, one connection`,
    unit: "µs a message",
    better: "lower" as const,
    target: undefined,
    rounds: 7,
    theirs: { name: "plain INSERT of the same row, primary key only", run: () => insertPlain(ground.pool, each) },
    ours: { name: "anybroker/outbox", run: () => insertOurs(ground, store, each) },
  }));
}

async function insertOurs({ pool, brokerUrl }: Ground, store: PostgresOutbox, each: number): Promise<number> {
  const orders = freshQueue("outbox");
  const broker = createBroker(rabbitmq({ url: brokerUrl }), { destinations: [orders] });
  const writer = createOutbox({ store, broker });
  await pool.query(`TRUNCATE ${TABLE}`);
  return microsecondsEach(pool, each, (client) => writer.send(client, orders, ORDER));
}

async function insertPlain(pool: Pool, each: number): Promise<number> {
  await pool.query(`CREATE TABLE IF NOT EXISTS plain (LIKE ${TABLE} INCLUDING DEFAULTS INCLUDING IDENTITY);
    TRUNCATE plain; ALTER TABLE plain DROP CONSTRAINT IF EXISTS plain_pkey, ADD PRIMARY KEY (position)`);
  const body = Buffer.from(JSON.stringify(ORDER));
  const text = `INSERT INTO plain (shard, id, kind, destination, body, content_type, priority, ordered, discard_unroutable)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)`;
  let made = 0;
  return microsecondsEach(pool, each, (client) => {
    const id = `0199a0c1-0000-7000-8000-${String(++made).padStart(12, "0")}`;
    return client.query(text, [made % 64, id, "queue", "bench.plain", body, "application/json", 4, false, false]);
  });
}

/** Microseconds a message of transactions with so many each. */
async function microsecondsEach(
  pool: Pool,
  each: number,
  write: (client: PoolClient) => Promise<unknown>,
): Promise<number> {
  const client = await pool.connect();
  try {
    const transaction = async (): Promise<void> => {
      await client.query("BEGIN");
      for (let made = 0; made < each; made++) await write(client);
      await client.query("COMMIT");
    };
    const transactions = Math.max(Math.floor(MESSAGES / (each === 1 ? 10 : each * 2)), 1);
    return 1_000_000 / ((await callsPerSecond(1, transactions, transaction)) * each);
  } finally {
    client.release();
  }
}

/** One relay beside what its database does for it, and how near to that the broker lets anybody come. */
function relaying(ground: Ground, store: PostgresOutbox): readonly Comparison[] {
  const beside = (keys: number | undefined): Pick<Comparison, "unit" | "better" | "rounds" | "theirs"> => ({
    unit: "messages/s",
    better: "higher",
    rounds: 7,
    theirs: { name: "the same claims and deletes, nothing sent", run: () => claimAndDelete(ground, store, keys) },
  });
  const relays = [undefined, KEYS].map((keys) => ({
    ...beside(keys),
    title: `one relay to RabbitMQ, ${keys === undefined ? "no keys" : `${keys.toLocaleString("en")} keys`}`,
    target: 0.6,
    ours: { name: "anybroker/outbox", run: () => relay(ground, store, keys) },
  }));
  const most = {
    ...beside(undefined),
    title: "the most that RabbitMQ confirms to one client, no database",
    target: undefined,
    ours: amqplibAlone(ground, MESSAGES),
  };
  return [...relays, most];
}

async function fill({ pool, brokerUrl }: Ground, store: PostgresOutbox, orders: Queue<Order>, keys?: number) {
  const broker = createBroker(rabbitmq({ url: brokerUrl }), { destinations: [orders] });
  const writer = createOutbox({ store, broker });
  await pool.query(`TRUNCATE ${TABLE}`);
  const client = await pool.connect();
  try {
    for (let first = 0; first < MESSAGES; first += BATCH) {
      const entries = Array.from({ length: Math.min(BATCH, MESSAGES - first) }, (_, index) =>
        keys === undefined ? { body: ORDER } : { body: ORDER, options: { key: `k${(first + index) % keys}` } },
      );
      await client.query("BEGIN");
      await writer.sendMany(client, orders, entries);
      await client.query("COMMIT");
    }
  } finally {
    client.release();
  }
  await pool.query(`VACUUM ANALYZE ${TABLE}`);
  await pool.query(`VACUUM ANALYZE ${TABLE}_shards`);
}

/** The store as a relay uses it: the next claim is made while the one before is deleted. */
async function claimAndDelete(ground: Ground, store: PostgresOutbox, keys: number | undefined): Promise<number> {
  await fill(ground, store, freshQueue("outbox"), keys);
  const deleting = new Set<Promise<void>>();
  let deleted = 0;
  const begin = performance.now();
  while (deleted < MESSAGES) {
    const claim = await store.claim({ relay: "bench", limit: BATCH, leaseMs: LEASE_MS });
    if (claim !== undefined) {
      const settlements = claim.rows.map(({ position }) => ({ position, outcome: "sent" as const }));
      const deletion = store.settle(claim.token, settlements).then(() => {
        deleting.delete(deletion);
        deleted += settlements.length;
      });
      deleting.add(deletion);
    }
    if (deleting.size >= DELETING_AT_ONCE || (claim === undefined && deleting.size > 0)) await Promise.race(deleting);
  }
  return (MESSAGES * 1_000) / (performance.now() - begin);
}

/** From the start to when the store has nothing left. */
async function relay(ground: Ground, store: PostgresOutbox, keys?: number): Promise<number> {
  const orders = freshQueue("outbox");
  await fill(ground, store, orders, keys);
  const broker = createBroker(rabbitmq({ url: ground.brokerUrl }), { destinations: [orders] });
  await broker.start();
  const sending = createRelay({ store, broker, batchSize: BATCH });
  const begin = performance.now();
  await sending.start();
  await sending.drain();
  const perSecond = (MESSAGES * 1_000) / (performance.now() - begin);
  await sending.stop();
  await broker.stop();
  await arrived(ground.brokerUrl, orders.name, MESSAGES, [".dlq", ".quarantine"]);
  return perSecond;
}

/** Sees that all are in the queue, and removes it. */
export async function arrived(
  brokerUrl: string,
  queue: string,
  messages: number,
  beside: readonly string[] = [],
): Promise<void> {
  const connection = await connect(brokerUrl);
  try {
    const channel = await connection.createChannel();
    const { messageCount } = await channel.deleteQueue(queue);
    for (const ending of beside) await channel.deleteQueue(queue + ending);
    if (messageCount < messages) throw new Error(`only ${messageCount} of ${messages} messages arrived in ${queue}`);
  } finally {
    await connection.close();
  }
}

/** Each peer with the settings that its documentation gives for throughput; the better of them is the one that counts. */
async function besidePeers(ground: Ground, store: PostgresOutbox): Promise<readonly Comparison[]> {
  const beside = (theirs: Contender, target?: number): Comparison => ({
    title: "one relay to RabbitMQ, no keys",
    unit: "messages/s",
    better: "higher",
    target,
    rounds: 3,
    theirs,
    ours: { name: "anybroker/outbox", run: () => relay(ground, store) },
  });
  const peers = [...(await pgTransactionalOutbox(ground, MESSAGES)), pgBoss(ground, MESSAGES)];
  return [beside(amqplibAlone(ground, MESSAGES)), ...peers.map((peer) => beside(peer, 2))];
}
