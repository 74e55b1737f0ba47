import { randomBytes } from "node:crypto";
import { inspect } from "node:util";
import type { Pool } from "pg";
import { expect, it } from "vitest";
import { memory } from "../../../adapters/memory/index.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { createOutbox } from "../../../patterns/outbox/create-outbox.ts";
import { postgresOutbox, postgresOutboxSql } from "../../../patterns/outbox/postgres/index.ts";
import { describePostgres } from "../../brokers/suite.ts";
import { openPool } from "../postgres-pool.ts";
import { useOwnPool } from "./own-pool.ts";
import { claimSome, LONG_MS, openOutbox, sendAll, stepsOf, writeSteps } from "./postgres-outbox.ts";

describePostgres("the tables of an outbox on Postgres", (broker) => {
  const { pool, url: ownUrl } = useOwnPool(broker);

  const tablesOf = async (schema: string) =>
    (
      await pool().query(
        `SELECT table_name, column_name, data_type, is_nullable, column_default, collation_name
         FROM information_schema.columns WHERE table_schema = $1 ORDER BY table_name, ordinal_position`,
        [schema],
      )
    ).rows;

  it("are made once, also if many do at once or again, in the schema and by the name they are told", async () => {
    await pool().query("CREATE SCHEMA own");
    const options = { schema: "own", table: "Outgoing" };
    await Promise.all(Array.from({ length: 8 }, () => postgresOutbox(pool(), options).migrate()));
    await postgresOutbox(pool(), options).migrate();
    expect((await pool().query('SELECT version FROM own."Outgoing_versions"')).rows).toEqual([{ version: 1 }]);
    expect((await pool().query('SELECT count(*)::int AS n FROM own."Outgoing_shards"')).rows).toEqual([{ n: 64 }]);
    const { store, outbox } = await openOutbox(pool(), options);
    await writeSteps(pool(), outbox, [{ key: "a", step: 1 }]);
    expect(stepsOf(await claimSome(store))).toEqual([{ key: "a", step: 1 }]);
  });

  it("are the same by the statements for other tools, which migrate then knows of", async () => {
    await pool().query("CREATE SCHEMA by_hand; CREATE SCHEMA by_store");
    for (const statement of postgresOutboxSql({ schema: "by_hand" })) await pool().query(statement);
    await postgresOutbox(pool(), { schema: "by_hand" }).migrate();
    await postgresOutbox(pool(), { schema: "by_store" }).migrate();
    expect(await tablesOf("by_hand")).toEqual(await tablesOf("by_store"));
    expect(await tablesOf("by_hand")).not.toEqual([]);
    const indexes = async (schema: string) =>
      (
        await pool().query<{ indexdef: string }>("SELECT indexdef FROM pg_indexes WHERE schemaname = $1 ORDER BY 1", [
          schema,
        ])
      ).rows.map(({ indexdef }) => indexdef.replaceAll(schema, "schema"));
    expect(await indexes("by_hand")).toEqual(await indexes("by_store"));
  });

  it("are left alone by a version that does not know them", async () => {
    await pool().query("CREATE SCHEMA newer");
    const store = postgresOutbox(pool(), { schema: "newer" });
    await store.migrate();
    await pool().query("INSERT INTO newer.anybroker_outbox_versions (version) VALUES (99)");
    await expect(store.migrate()).rejects.toMatchObject({ code: "conflict" });
  });

  it("need the rights that the documentation lists, and no more; what is missing is said", async () => {
    await pool().query("CREATE SCHEMA shop");
    const options = { schema: "shop", keepSentMs: LONG_MS };
    await postgresOutbox(pool(), options).migrate();
    const canary = "s3cret-canary";
    const suffix = randomBytes(6).toString("hex");
    const [writer, relay] = [`writer_${suffix}`, `relay_${suffix}`];
    const open = (role: string): Pool => {
      const url = new URL(ownUrl());
      url.username = role;
      url.password = canary;
      return openPool(url.href);
    };
    for (const role of [writer, relay]) await pool().query(`CREATE ROLE ${role} LOGIN PASSWORD '${canary}'`);
    const [theirs, relays] = [open(writer), open(relay)];
    try {
      const store = postgresOutbox(theirs, options);
      const outbox = createOutbox({ store, broker: createBroker(memory()) });
      const write = () => writeSteps(theirs, outbox, [{ key: "a", step: 1 }]);
      await pool().query(`GRANT USAGE ON SCHEMA shop TO ${writer}, ${relay}`);
      const error: unknown = await write().catch((reason) => reason);
      expect(error).toMatchObject({ code: "unauthorized" });
      expect(inspect(error, { depth: 10 })).not.toContain(canary);

      await pool().query(`GRANT INSERT ON shop.anybroker_outbox TO ${writer}`);
      await write();
      await expect(claimSome(store)).rejects.toMatchObject({ code: "unauthorized" });

      await pool().query(`
        GRANT SELECT, UPDATE, DELETE ON shop.anybroker_outbox TO ${relay};
        GRANT SELECT, INSERT, UPDATE ON shop.anybroker_outbox_shards TO ${relay};
        GRANT SELECT, INSERT, UPDATE, DELETE ON shop.anybroker_outbox_sent TO ${relay};
        GRANT SELECT ON shop.anybroker_outbox_versions TO ${relay}`);
      const claiming = postgresOutbox(relays, options);
      // There is nothing to do.
      await claiming.migrate();
      const claim = await claimSome(claiming);
      expect(stepsOf(claim)).toEqual([{ key: "a", step: 1 }]);
      if (claim === undefined) return;
      expect(await claiming.renew(claim.token, LONG_MS)).toBe("renewed");
      const [position = 0] = claim.rows.map((row) => row.position);
      const problem = { code: "refused", message: "no" };
      await claiming.settle(claim.token, [{ position, outcome: "quarantined", error: problem, holdsKey: false }]);
      expect(await claiming.listQuarantined({ limit: 1 })).toHaveLength(1);
      expect(await claiming.retryQuarantined([position])).toEqual([position]);
      const again = await claimSome(claiming);
      if (again !== undefined) expect(await sendAll(claiming, again)).toEqual([]);
      expect(await claiming.discardQuarantined([position])).toEqual([]);
      expect(await claiming.clean(1)).toBe(0);
      expect(await claiming.health()).toMatchObject({ unsent: 0, quarantined: 0 });
      await expect(postgresOutbox(relays, { schema: "shop", table: "mine" }).migrate()).rejects.toMatchObject({
        code: "unauthorized",
      });
    } finally {
      await theirs.end();
      await relays.end();
      await pool().query(`DROP OWNED BY ${writer}, ${relay}`);
      await pool().query(`DROP ROLE ${writer}, ${relay}`);
    }
  });

  it("are said to be missing, or others", async () => {
    for (const options of [{ table: "not_there" }, { schema: "not_there" }]) {
      await expect(claimSome(postgresOutbox(pool(), options))).rejects.toMatchObject({ code: "not-found" });
    }
    await expect(postgresOutbox(pool(), { schema: "not_there" }).migrate()).rejects.toMatchObject({
      code: "not-found",
    });
    await pool().query("CREATE TABLE another (id int); CREATE TABLE another_shards (id int)");
    await expect(claimSome(postgresOutbox(pool(), { table: "another" }))).rejects.toMatchObject({ code: "conflict" });
  });
});
