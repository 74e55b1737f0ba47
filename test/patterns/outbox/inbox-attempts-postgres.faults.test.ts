import type { PoolClient } from "pg";
import { expect, onTestFinished, test } from "vitest";
import { type PostgresInbox, postgresInbox } from "../../../patterns/outbox/postgres/index.ts";
import { controlsOrNotRun, describePostgres } from "../../brokers/suite.ts";
import { openPool } from "../postgres-pool.ts";
import { type Attempts, attempting, expectDeadAfter, processOf } from "./inbox-attempts.ts";

/** Ends the process of the server that runs it as a crash does: the server then ends all others, and recovers. */
const CRASH = "COPY (SELECT 1) TO PROGRAM 'kill -9 $PPID'";

describePostgres("attempts at a message while Postgres goes down", (broker) => {
  async function openInbox(): Promise<PostgresInbox<PoolClient>> {
    const database = await broker.newDatabase();
    const pool = openPool(database.url);
    onTestFinished(async () => {
      await pool.end();
      await database.remove();
    });
    const inbox = postgresInbox(pool, { timeoutMs: 5_000 });
    await inbox.migrate();
    return inbox;
  }

  /** Stops the server in good order, as `pg_ctl stop` does: it tells every connection, and takes no more. */
  async function shutDown(): Promise<void> {
    const pool = openPool(broker.url);
    onTestFinished(() => pool.end());
    const { rows } = await pool.query<{ data_directory: string }>("SHOW data_directory");
    const postmaster = `$(head -1 "${rows[0]?.data_directory}/postmaster.pid")`;
    await pool.query(`COPY (SELECT 1) TO PROGRAM 'kill -INT ${postmaster}'`).catch(() => undefined);
  }

  /** Expects that the message is done in the end, and how its starts were counted. */
  async function expectDone(run: Attempts, starts: readonly number[]): Promise<void> {
    await expect.poll(() => run.succeeded() + run.dead.length, { timeout: 240_000 }).toBe(1);
    expect({ dead: run.dead, starts: run.starts }).toEqual({ dead: [], starts });
  }

  test.for<readonly [what: string, wait: (client: PoolClient) => Promise<unknown>]>([
    ["a statement runs", (client) => client.query("SELECT pg_sleep(600)")],
    ["its handler does something else", (client) => new Promise((_, reject) => client.on("error", reject))],
  ])("are not used up by a shutdown while %s", async ([, wait], context) => {
    const { kill, start } = controlsOrNotRun(broker, context);
    const begun = Promise.withResolvers<void>();
    const run = await attempting(await openInbox(), 1, async (client) => {
      if (run.starts.length > 1) return;
      begun.resolve();
      await wait(client);
    });
    await begun.promise;
    await shutDown();
    await expect.poll(() => run.inboxEvents.length + run.dead.length).toBeGreaterThan(0);
    // It may have come to its end by itself.
    await kill().catch(() => undefined);
    await start();
    await expectDone(run, [1, 1]);
    expect(run.inboxEvents).toContainEqual(expect.objectContaining({ type: "postponed", because: "store" }));
  });

  test("are used up once by a server that dies without a word, and not while it is away", async (context) => {
    const { kill, start } = controlsOrNotRun(broker, context);
    const begun = Promise.withResolvers<void>();
    const run = await attempting(await openInbox(), 2, async (client) => {
      if (run.starts.length > 1) return;
      begun.resolve();
      await client.query("SELECT pg_sleep(600)");
    });
    await begun.promise;
    await kill();
    const postponed = () => run.inboxEvents.filter(({ type }) => type === "postponed").length;
    await expect.poll(postponed).toBeGreaterThan(2);
    await start();
    await expectDone(run, [1, 2]);
  });

  test("are not used up by the crash of another process of the server", async (context) => {
    controlsOrNotRun(broker, context);
    const begun = Promise.withResolvers<void>();
    const run = await attempting(await openInbox(), 1, async (client) => {
      if (run.starts.length > 1) return;
      begun.resolve();
      await client.query("SELECT pg_sleep(600)");
    });
    await begun.promise;
    const other = openPool(broker.url);
    onTestFinished(() => other.end());
    await expect(other.query(CRASH)).rejects.toThrow();
    await expectDone(run, [1, 1]);
  });

  test("are used up by a handler that crashes its process of the server", async (context) => {
    controlsOrNotRun(broker, context);
    const pids: number[] = [];
    const run = await attempting(await openInbox(), 2, async (client) => {
      pids.push(await processOf(client));
      await client.query(CRASH);
    });
    await expectDeadAfter(2, run);
    expect(new Set(pids).size).toBe(2);
  });
});
