import type { Pool } from "pg";
import { afterAll, beforeAll, describe, test } from "vitest";
import { inboxConformance } from "../../../conformance/outbox/index.ts";
import type { Database } from "../../brokers/postgres.ts";
import { describePostgres } from "../../brokers/suite.ts";
import { openPool } from "../postgres-pool.ts";
import { type InboxToOpen, openInbox } from "./inbox-postgres.ts";

describePostgres("the Postgres inbox", (broker) => {
  let database: Database;
  let pool: Pool;
  const state = { tables: 0 };

  beforeAll(async () => {
    database = await broker.newDatabase();
    pool = openPool(database.url);
    await pool.query("CREATE TABLE effects (effect text NOT NULL)");
  });

  afterAll(async () => {
    await pool.end();
    await database.remove();
  });

  const { controls } = broker;
  inboxConformance(
    {
      name: "postgres",
      async place() {
        const place: InboxToOpen = { url: database.url, table: `inbox_${state.tables++}` };
        await pool.query("TRUNCATE effects");
        return {
          open: () => openInbox(place),
          effects: async () =>
            (await pool.query<{ effect: string }>("SELECT effect FROM effects")).rows.map(({ effect }) => effect),
          processes: { module: new URL("inbox-postgres.ts", import.meta.url).href, options: place },
          remove: async () => {},
        };
      },
      commitFromWithin: async (transaction) => {
        await transaction.query("COMMIT");
      },
      beginFromWithin: async (transaction) => {
        await transaction.query("BEGIN");
      },
      doom: async (transaction) => {
        await transaction.query("SELECT 1 / 0").catch(() => undefined);
      },
      breakFromWithin: async (transaction) => {
        await transaction.query("SELECT pg_terminate_backend(pg_backend_pid())").catch(() => undefined);
      },
      ...(controls
        ? { outage: { begin: controls.kill, end: controls.start } }
        : { withoutOutage: "the server was given by URL, so it cannot be stopped" }),
    },
    { describe, test, afterAll },
  );
});
