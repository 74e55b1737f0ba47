import { randomUUID } from "node:crypto";
import { type ConfirmChannel, connect } from "amqplib";
import { PgBoss } from "pg-boss";
import {
  createReplicationSemaphoreConcurrencyController,
  DatabaseSetup,
  type GeneralMessageHandler,
  getDisabledLogger,
  initializeMessageStorage,
  initializePollingMessageListener,
  initializeReplicationMessageListener,
} from "pg-transactional-outbox";
import { until } from "../test/brokers/until.ts";
import { freshQueue, ORDER } from "./body.ts";
import { type Contender, callsPerSecond, countdown } from "./measure.ts";
import { arrived, type Ground } from "./outbox.ts";

/** Each message is a transaction of its own there, so many at once. */
const PARALLEL = 20;
const FETCHED = 1_000;
/** By how much its polling has less to send: each of its fetches sorts all that is unsent, so that less is quicker. */
const POLLED_SHARE = 10;
const LONG_MS = 600_000;
const OUTBOX = { dbSchema: "public", dbTable: "peer_outbox" };
const SETUP = {
  outboxOrInbox: "outbox" as const,
  database: "",
  schema: "public",
  table: "peer_outbox",
  listenerRole: "",
};
const NEXT = "next_outbox_messages";

/** Publishes one message; resolves with its confirm. */
type Publish = (payload: unknown) => Promise<void>;
/** Begins to send; resolves with how to stop. */
type Begin = (publish: Publish) => Promise<() => Promise<unknown>>;

/** Messages per second from the beginning to when all are confirmed and the peer has stopped, its table told of them. */
async function perSecond(brokerUrl: string, messages: number, begin: Begin): Promise<number> {
  const connection = await connect(brokerUrl);
  try {
    const channel = await connection.createConfirmChannel();
    const { queue } = await channel.assertQueue(freshQueue("peer").name, {
      durable: true,
      arguments: { "x-queue-type": "quorum" },
    });
    const { tick, done } = countdown(messages);
    const began = performance.now();
    const stop = await begin((payload) => confirmed(channel, queue, payload).then(tick));
    await done;
    await stop();
    const figure = (messages * 1_000) / (performance.now() - began);
    await channel.close();
    await arrived(brokerUrl, queue, messages);
    return figure;
  } finally {
    await connection.close();
  }
}

function confirmed(channel: ConfirmChannel, queue: string, payload: unknown): Promise<void> {
  return new Promise((resolve, reject) => {
    const ended = (error: unknown): void => (error ? reject(error) : resolve());
    const options = { persistent: true, mandatory: true, messageId: randomUUID() };
    channel.publish("", queue, Buffer.from(JSON.stringify(payload)), options, ended);
  });
}

/** Its polling and, where the server allows it, its logical replication; both handle in parallel and protect from nothing. */
export async function pgTransactionalOutbox(ground: Ground, messages: number): Promise<readonly Contender[]> {
  const { pool } = ground;
  await pool.query(DatabaseSetup.dropAndCreateTable(SETUP));
  await pool.query(DatabaseSetup.createPollingFunction({ ...SETUP, nextMessagesName: NEXT }));
  await pool.query(DatabaseSetup.setupPollingIndexes({ ...SETUP, nextMessagesName: NEXT }));
  const polling = {
    name: `pg-transactional-outbox, polling, a backlog of 1/${POLLED_SHARE}`,
    run: async () => {
      const polled = Math.ceil(messages / POLLED_SHARE);
      await fill(ground, polled);
      return perSecond(ground.brokerUrl, polled, async (publish) => {
        const [stop] = initializePollingMessageListener(
          {
            ...listener(ground),
            settings: {
              ...settings(),
              nextMessagesFunctionName: NEXT,
              nextMessagesBatchSize: PARALLEL,
              // Where fetching and handling meet at a row, the row waits for so long.
              nextMessagesLockInMs: 1_000,
              nextMessagesPollingIntervalInMs: 10,
            },
          },
          handler(publish),
          getDisabledLogger(),
          // The default begins with one at a time.
          { batchSizeStrategy: () => Promise.resolve(PARALLEL) },
        );
        return stop;
      });
    },
  };
  const { rows } = await pool.query("SHOW wal_level");
  if (rows[0]?.wal_level !== "logical") return [polling];
  await pool.query(
    "DROP PUBLICATION IF EXISTS peer_outbox; CREATE PUBLICATION peer_outbox FOR TABLE peer_outbox WITH (publish = 'insert')",
  );
  return [polling, { name: "pg-transactional-outbox, replication", run: () => replicated(ground, messages) }];
}

async function replicated(ground: Ground, messages: number): Promise<number> {
  const slot = `bench_${randomUUID().replaceAll("-", "")}`;
  await ground.pool.query("SELECT pg_create_logical_replication_slot($1, 'pgoutput')", [slot]);
  try {
    await fill(ground, messages);
    return await perSecond(ground.brokerUrl, messages, async (publish) => {
      const [stop] = initializeReplicationMessageListener(
        { ...listener(ground), settings: { ...settings(), dbPublication: "peer_outbox", dbReplicationSlot: slot } },
        handler(publish),
        getDisabledLogger(),
        { concurrencyStrategy: createReplicationSemaphoreConcurrencyController(PARALLEL) },
      );
      return stop;
    });
  } finally {
    await until("the end of the replication", 30_000, () =>
      ground.pool.query("SELECT pg_drop_replication_slot($1)", [slot]),
    );
  }
}

function settings() {
  return {
    ...OUTBOX,
    enableMaxAttemptsProtection: false,
    enablePoisonousMessageProtection: false,
    messageProcessingTimeoutInMs: LONG_MS,
    messageCleanupIntervalInMs: 0,
  };
}

function listener({ databaseUrl }: Ground) {
  const { hostname, port, username, password, pathname } = new URL(databaseUrl);
  const database = { host: hostname, port: Number(port), user: username, password, database: pathname.slice(1) };
  return {
    outboxOrInbox: "outbox" as const,
    dbHandlerConfig: { ...database, max: PARALLEL },
    dbListenerConfig: database,
  };
}

function handler(publish: Publish): GeneralMessageHandler {
  return { handle: ({ payload }) => publish(payload) };
}

async function fill({ pool }: Ground, messages: number): Promise<void> {
  const store = initializeMessageStorage({ outboxOrInbox: "outbox", settings: settings() }, getDisabledLogger());
  await pool.query("TRUNCATE peer_outbox");
  const client = await pool.connect();
  try {
    await client.query("BEGIN");
    for (let made = 0; made < messages; made++) {
      const about = { aggregateType: "order", aggregateId: "o-1", messageType: "placed" };
      await store({ id: randomUUID(), ...about, concurrency: "parallel", payload: ORDER }, client);
    }
    await client.query("COMMIT");
  } finally {
    client.release();
  }
  await pool.query("VACUUM ANALYZE peer_outbox");
}

/** Batches that are fetched without a pause and published together. */
export function pgBoss({ databaseUrl, brokerUrl }: Ground, messages: number): Contender {
  return {
    name: `pg-boss, batches of ${FETCHED.toLocaleString("en")}`,
    run: async () => {
      const boss = new PgBoss({ connectionString: databaseUrl, supervise: false, schedule: false });
      boss.on("error", () => {});
      await boss.start();
      try {
        const jobs = `bench-${randomUUID()}`;
        await boss.createQueue(jobs);
        for (let first = 0; first < messages; first += FETCHED) {
          const count = Math.min(FETCHED, messages - first);
          await boss.insert(
            jobs,
            Array.from({ length: count }, () => ({ data: ORDER })),
          );
        }
        const options = { batchSize: FETCHED, burstWhenBatchFull: true, pollingIntervalSeconds: 0.5 };
        const figure = await perSecond(brokerUrl, messages, async (publish) => {
          await boss.work(jobs, options, async (batch) => {
            await Promise.all(batch.map(({ data }) => publish(data)));
          });
          return () => boss.offWork(jobs, { wait: true });
        });
        await boss.deleteQueue(jobs);
        return figure;
      } finally {
        await boss.stop({ graceful: false });
      }
    },
  };
}

/** What the broker takes: the same messages through the same kind of channel, and no database. */
export function amqplibAlone({ brokerUrl }: Ground, messages: number): Contender {
  return {
    name: `amqplib, confirms, ${FETCHED.toLocaleString("en")} callers, no database`,
    run: () =>
      perSecond(brokerUrl, messages, async (publish) => {
        await callsPerSecond(FETCHED, messages, () => publish(ORDER));
        return () => Promise.resolve();
      }),
  };
}
