import { expect, it } from "vitest";
import { memory } from "../../../adapters/memory/index.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { createRelay } from "../../../patterns/outbox/index.ts";
import { postgresInbox } from "../../../patterns/outbox/postgres/index.ts";
import { describePostgres } from "../../brokers/suite.ts";
import { useOwnPool } from "./own-pool.ts";
import { claimSome, openOutbox, sendAll, steps, stepsOf, writeSteps } from "./postgres-outbox.ts";

const FAR = "9007199254740993";

describePostgres("an outbox on Postgres whose tables somebody changed", (broker) => {
  const { pool } = useOwnPool(broker);

  it("makes shards again that are gone, and tells of their rows until then", async () => {
    const table = "emptied";
    const { store, outbox } = await openOutbox(pool(), { table });
    expect(await claimSome(store)).toBeUndefined();
    await pool().query(`TRUNCATE ${table}, ${table}_shards`);
    await writeSteps(pool(), outbox, [{ key: "a", step: 1 }]);
    const health = await store.health();
    expect(health.oldestUnsentMs).toBeGreaterThan(0);
    expect(health.stalls).toContainEqual(expect.objectContaining({ cause: "unclaimable" }));
    const claim = await claimSome(store);
    expect(stepsOf(claim)).toEqual([{ key: "a", step: 1 }]);
    if (claim !== undefined) expect(await sendAll(store, claim)).toEqual([]);
    expect(await store.health()).toMatchObject({ unsent: 0, oldestUnsentMs: 0 });
    const shards = async () => (await pool().query(`SELECT count(*)::int AS n FROM ${table}_shards`)).rows[0].n;
    expect(await shards()).toBe(64);
    await pool().query(`DELETE FROM ${table}_shards WHERE shard < 3`);
    await store.migrate();
    expect(await shards()).toBe(64);
  });

  it.each([99, -1])("claims what others wrote into shard %i", async (shard) => {
    const table = `shard_${Math.abs(shard)}`;
    const { store, outbox } = await openOutbox(pool(), { table });
    await writeSteps(pool(), outbox, [{ key: "a", step: 1 }]);
    await pool().query(`UPDATE ${table} SET shard = ${shard}`);
    expect((await store.health()).oldestUnsentMs).toBeGreaterThan(0);
    expect(stepsOf(await claimSome(store))).toEqual([{ key: "a", step: 1 }]);
  });

  it("settles a row whose attempts are as many as the column holds", async () => {
    const table = "many_attempts";
    const { store, outbox } = await openOutbox(pool(), { table });
    await writeSteps(pool(), outbox, [{ key: "a", step: 1 }]);
    await pool().query(`UPDATE ${table} SET attempts = 2147483647`);
    const claim = await claimSome(store);
    const [row] = claim?.rows ?? [];
    const error = { code: "not-found", message: "no" };
    const settlement = { position: row?.position ?? 0, outcome: "quarantined", error, holdsKey: false } as const;
    expect(await store.settle(claim?.token ?? "", [settlement])).toEqual([]);
    expect(await store.health()).toMatchObject({ quarantined: 1 });
  });

  it("says so where its role may not make the shards", async () => {
    const table = "not_ours";
    const { store } = await openOutbox(pool(), { table });
    await pool().query(`TRUNCATE ${table}_shards; CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '42501'; END $$;
      CREATE TRIGGER no BEFORE INSERT ON ${table}_shards EXECUTE FUNCTION no()`);
    for (let tries = 0; tries < 2; tries++) {
      await expect(claimSome(store)).rejects.toMatchObject({
        code: "conflict",
        message: expect.stringContaining("_shards is empty"),
      });
    }
  });

  it("takes over a lease that ends later than any can", async () => {
    const table = "leased";
    const { store, outbox } = await openOutbox(pool(), { table });
    await writeSteps(pool(), outbox, [{ key: "a", step: 1 }]);
    await pool().query(`UPDATE ${table}_shards SET ends_at = 'infinity'`);
    expect(stepsOf(await claimSome(store))).toEqual([{ key: "a", step: 1 }]);
  });

  it("says what to do where its versions are gone", async () => {
    const table = "unversioned";
    const { store } = await openOutbox(pool(), { table });
    const inbox = postgresInbox(pool(), { table: "unversioned_inbox" });
    await inbox.migrate();
    await pool().query(`TRUNCATE ${table}_versions, unversioned_inbox_versions`);
    for (const one of [store, inbox]) {
      await expect(one.migrate()).rejects.toMatchObject({
        code: "conflict",
        message: expect.stringContaining("no version is noted"),
      });
    }
    await pool().query(`INSERT INTO ${table}_versions (version) VALUES (1)`);
    await store.migrate();
  });

  it("quarantines what a trigger keeps it from removing, and sends it once", async () => {
    const table = "kept";
    const { store, outbox } = await openOutbox(pool(), { table });
    await pool().query(`CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
      CREATE TRIGGER keep BEFORE DELETE ON ${table} FOR EACH ROW EXECUTE FUNCTION keep()`);
    const at = createBroker(memory());
    const handled: number[] = [];
    at.consume(steps, ({ step }) => void handled.push(step));
    await at.start();
    const relay = createRelay({ store, broker: at, clean: false });
    await writeSteps(pool(), outbox, [
      { key: "a", step: 1 },
      { key: "a", step: 2 },
    ]);
    await relay.start();
    await expect.poll(() => store.health(), { timeout: 240_000 }).toMatchObject({ unsent: 0, quarantined: 2 });
    await relay.stop();
    await at.stop();
    expect(handled).toEqual([1, 2]);
    const [row] = await store.listQuarantined({ limit: 10 });
    expect(row?.error).toMatchObject({ code: "conflict", message: expect.stringContaining("Look for a trigger") });
  });

  it("passes over rows whose positions nobody can tell apart, and tells of them", async () => {
    const table = "far";
    const { store, outbox } = await openOutbox(pool(), { table });
    await writeSteps(pool(), outbox, [
      { key: "a", step: 1 },
      { key: "b", step: 1 },
      { key: "c", step: 1 },
    ]);
    await pool().query(`ALTER TABLE ${table} ALTER position SET GENERATED BY DEFAULT`);
    await pool().query(
      `UPDATE ${table} SET position = CASE position WHEN 1 THEN ${FAR} ELSE -${FAR} END WHERE position < 3`,
    );
    expect(stepsOf(await claimSome(store))).toEqual([{ key: "c", step: 1 }]);
    const stall = { cause: "unclaimable", message: expect.stringContaining("2 rows have a position beyond") };
    expect((await store.health()).stalls).toContainEqual(expect.objectContaining(stall));
    await pool().query(`UPDATE ${table} SET quarantined_at = now() WHERE position > 3`);
    expect(await store.listQuarantined({ limit: 10 })).toEqual([]);
  });
});
