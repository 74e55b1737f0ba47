import { retry } from "anybroker";
import type { HandlerResult } from "anybroker/adapter";
import { Pool, type PoolClient } from "pg";
import { describe, expect, onTestFinished, test } from "vitest";
import { postgresInbox } from "../../../patterns/outbox/postgres/index.ts";
import { describePostgres } from "../../brokers/suite.ts";
import { attempting, ended, expectDeadAfter, processOf } from "./inbox-attempts.ts";
import { useOwnPool } from "./own-pool.ts";

/** How a handler goes on after the server has ended what it did. */
const AFTERWARDS: Readonly<Record<string, (error: unknown) => HandlerResult | Promise<HandlerResult>>> = {
  "throws the client's error": (error) => Promise.reject(error),
  "throws an error of its own": () => Promise.reject(new Error("no")),
  "returns as if nothing had happened": () => undefined,
  "asks for a retry": () => retry({ afterMs: 0 }),
};

describePostgres("attempts at a message whose handler writes to Postgres", (broker) => {
  const own = useOwnPool(broker);
  const state = { tables: 0 };

  /** An inbox with a pool whose connections have these settings. */
  async function inboxWith(settings: readonly string[], timeoutMs = 5_000) {
    const options = settings.map((setting) => `-c ${setting}`).join(" ");
    const pool = new Pool({ connectionString: own.url(), connectionTimeoutMillis: 20_000, options, max: 3 });
    pool.on("error", () => undefined);
    onTestFinished(() => pool.end());
    const inbox = postgresInbox(pool, { table: `inbox_${state.tables++}`, timeoutMs });
    await inbox.migrate();
    return inbox;
  }

  /** Made to be waited for: whoever asks for it gets it when the test is over. */
  async function takenLock(): Promise<number> {
    const key = 1_000 + state.tables;
    const holder = await own.pool().connect();
    await holder.query("SELECT pg_advisory_lock($1)", [key]);
    onTestFinished(async () => {
      await holder.query("SELECT pg_advisory_unlock($1)", [key]);
      holder.release();
    });
    return key;
  }

  const raise = (state: string): string => `DO $$ BEGIN RAISE EXCEPTION 'so' USING ERRCODE = '${state}'; END $$`;

  test.for(Object.keys(AFTERWARDS))("are used up by a statement that ends its connection, and it %s", async (how) => {
    const run = await attempting(await inboxWith([]), 2, async (client) => {
      const failed = client.query("SELECT pg_terminate_backend(pg_backend_pid())");
      return failed.then(() => undefined, AFTERWARDS[how]);
    });
    await expectDeadAfter(2, run);
  });

  test.for(Object.keys(AFTERWARDS))(
    "are used up by a transaction that takes longer than the server allows, and it %s",
    async (how, context) => {
      if (Number.parseInt(broker.version, 10) < 17) context.skip("NOT RUN: Postgres has transaction_timeout from 17");
      const inbox = await inboxWith(["transaction_timeout=400"]);
      const run = await attempting(inbox, 2, (client) =>
        client.query("SELECT pg_sleep(60)").then(() => undefined, AFTERWARDS[how]),
      );
      await expectDeadAfter(2, run);
    },
  );

  test.for(Object.keys(AFTERWARDS))("are used up by a transaction that idles for too long, and it %s", async (how) => {
    const inbox = await inboxWith(["idle_in_transaction_session_timeout=300"]);
    const run = await attempting(inbox, 2, async (client) => {
      await ended(own.pool(), await processOf(client));
      const failed = client.query("SELECT 1");
      return failed.then(() => undefined, AFTERWARDS[how]);
    });
    await expectDeadAfter(2, run);
  });

  test.for(Object.keys(AFTERWARDS))(
    "are used up by a connection that was ended while it idled, and it %s",
    async (how) => {
      const run = await attempting(await inboxWith([]), 2, async (client) => {
        const pid = await processOf(client);
        await own.pool().query("SELECT pg_terminate_backend($1)", [pid]);
        await ended(own.pool(), pid);
        const failed = client.query("SELECT 1");
        return failed.then(() => undefined, AFTERWARDS[how]);
      });
      await expectDeadAfter(2, run);
    },
  );

  test.for(Object.keys(AFTERWARDS))("are used up by a handler that breaks its connection, and it %s", async (how) => {
    const run = await attempting(await inboxWith([]), 2, (client) => {
      breakOff(client);
      return client.query("SELECT 1").then(() => undefined, AFTERWARDS[how]);
    });
    await expectDeadAfter(2, run);
  });

  test.for<readonly [what: string, settings: readonly string[], statement: (lock: number) => string]>([
    ["takes too long", ["statement_timeout=300"], () => "SELECT pg_sleep(60)"],
    [
      "waits too long for a lock",
      ["statement_timeout=0"],
      (lock) => `SET LOCAL lock_timeout = 100; SELECT pg_advisory_xact_lock(${lock})`,
    ],
    ["cannot be serialized", [], () => raise("40001")],
    ["is the victim of a deadlock", [], () => raise("40P01")],
    ["has the server without memory", [], () => raise("53200")],
    ["has the server fail", [], () => raise("58030")],
  ])("are used up by a statement that %s", async ([, settings, statement]) => {
    const lock = await takenLock();
    const run = await attempting(await inboxWith(settings), 2, (client) =>
      client.query(statement(lock)).then(() => undefined),
    );
    await expectDeadAfter(2, run);
  });

  describe("of which the commit", () => {
    /** Has a statement run at the commit of whoever writes to the table. */
    async function atCommit(body: string): Promise<string> {
      const name = `late_${state.tables}`;
      await own.pool().query(`
        CREATE TABLE ${name} (id integer);
        CREATE FUNCTION ${name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ${body}; RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER late AFTER INSERT ON ${name} DEFERRABLE INITIALLY DEFERRED
          FOR EACH ROW EXECUTE FUNCTION ${name}()`);
      return `INSERT INTO ${name} VALUES (1)`;
    }

    test.for<readonly [what: string, body: string]>([
      ["is refused", "RAISE EXCEPTION 'so' USING ERRCODE = '40001'"],
      ["has the server fail", "RAISE EXCEPTION 'so' USING ERRCODE = '58030'"],
      ["ends the connection", "PERFORM pg_terminate_backend(pg_backend_pid()), pg_sleep(60)"],
    ])("%s", async ([, body]) => {
      const statement = await atCommit(body);
      const inbox = await inboxWith([], 1_000);
      const run = await attempting(inbox, 2, (client) => client.query(statement).then(() => undefined));
      await expectDeadAfter(2, run);
    });

    test("takes longer than an answer may, and is kept in the end: the message is done", async () => {
      const statement = await atCommit("PERFORM pg_sleep(8)");
      const run = await attempting(await inboxWith([], 3_000), 2, (client) =>
        client.query(statement).then(() => undefined),
      );
      await expect.poll(() => run.succeeded() + run.dead.length).toBe(1);
      expect({ dead: run.dead, starts: run.starts }).toEqual({ dead: [], starts: [1] });
    });
  });

  test("are not used up by a commit whose answer was lost: it is looked for, and found", async () => {
    const inbox = await inboxWith([]);
    await own.pool().query("CREATE TABLE IF NOT EXISTS kept (id text)");
    const run = await attempting(inbox, 1, async (client) => {
      await client.query("INSERT INTO kept VALUES ('m-1')");
      const query = client.query.bind(client);
      client.query = (async (text: string, values?: unknown[]) => {
        const answer = await query(text, values);
        if (!text.includes("COMMIT")) return answer;
        breakOff(client);
        throw new Error("the answer was lost");
      }) as typeof client.query;
    });
    await expect.poll(() => run.succeeded() + run.dead.length).toBe(1);
    expect({ dead: run.dead, starts: run.starts }).toEqual({ dead: [], starts: [1] });
    expect((await own.pool().query("SELECT id FROM kept")).rows).toEqual([{ id: "m-1" }]);
  });

  test("are used up where the table refuses the row of the message itself", async () => {
    const table = `inbox_${state.tables}`;
    const inbox = await inboxWith([]);
    await own.pool().query(`ALTER TABLE ${table} ADD CHECK (message_id <> 'm-1')`);
    const run = await attempting(inbox, 2, () => undefined);
    await expect.poll(() => run.dead).toEqual(["attempts"]);
    expect(run.starts).toEqual([]);
  });
});

/** As if the line were cut: nobody says goodbye. */
function breakOff(client: PoolClient): void {
  (client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy();
}
