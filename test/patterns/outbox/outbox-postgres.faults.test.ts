import { afterAll, describe, test } from "vitest";
import { outboxConformance } from "../../../conformance/outbox/index.ts";
import { describePostgres } from "../../brokers/suite.ts";
import { useOwnPool } from "./own-pool.ts";
import { type OutboxToOpen, openOutbox } from "./postgres-databases.ts";

describePostgres("the Postgres outbox", (broker) => {
  const { pool, url } = useOwnPool(broker);
  let tables = 0;

  const { controls } = broker;
  outboxConformance(
    {
      name: "postgres",
      async place() {
        const table = `outbox_${tables++}`;
        const options: OutboxToOpen = { url: url(), table, keepSentMs: 0 };
        return {
          open: ({ keepSentMs }) => openOutbox({ ...options, keepSentMs }),
          processes: { module: new URL("postgres-databases.ts", import.meta.url).href, options },
          remove: async () => {
            await pool().query(`DROP TABLE ${table}, ${table}_shards, ${table}_sent, ${table}_versions`);
          },
        };
      },
      ...(controls
        ? { outage: { begin: controls.kill, end: controls.start } }
        : { withoutOutage: "the server was given by URL, so it cannot be stopped" }),
    },
    { describe, test, afterAll },
  );
});
