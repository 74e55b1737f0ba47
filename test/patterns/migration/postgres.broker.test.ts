import { randomBytes } from "node:crypto";
import { postgresMigrationSql, postgresMigrationStore } from "anybroker/migration/postgres";
import type { Pool } from "pg";
import { afterAll, beforeAll, expect, test } from "vitest";
import { systemClock } from "../../../core/clock.ts";
import { Recording } from "../../../patterns/migration/recording.ts";
import type { Database } from "../../brokers/postgres.ts";
import { describePostgres } from "../../brokers/suite.ts";
import { openPool, openPoolOfOwnParsers } from "../postgres-pool.ts";
import { storeCases } from "./store-cases.ts";

describePostgres("the migration's state in Postgres", (broker) => {
  let place: Database;
  let pools: [Pool, Pool];

  beforeAll(async () => {
    place = await broker.newDatabase();
    pools = [openPoolOfOwnParsers(place.url), openPoolOfOwnParsers(place.url)];
    // All at once, as processes that start together do.
    await Promise.all([...pools, ...pools].map((pool) => postgresMigrationStore(pool).migrate()));
  });

  afterAll(async () => {
    await Promise.all(pools.map((pool) => pool.end()));
    await place.remove();
  });

  storeCases("postgres", async () => [postgresMigrationStore(pools[0]), postgresMigrationStore(pools[1])]);

  test("the statements for a team's own tool make the same tables", async () => {
    const table = `own_${randomBytes(4).toString("hex")}`;
    for (const statement of postgresMigrationSql({ table })) await pools[0].query(statement);
    const store = postgresMigrationStore(pools[0], { table });
    expect(await store.change("m", 0, "{}")).toBe("changed");
    expect(() => postgresMigrationSql({ table: `x"; --` })).toThrow(/letters, digits/);
  });

  test("a mark of an id that Postgres cannot keep is written all the same, and holds no other back", async () => {
    const store = postgresMigrationStore(pools[0]);
    const migration = `m_${randomBytes(4).toString("hex")}`;
    const failures: unknown[] = [];
    const late = (_: number, error: unknown) => void failures.push(error);
    const recording = new Recording({ store, migration, clock: systemClock(), timeoutMs: 5_000, late });
    const ids = ["plain", "with \0 in it", randomBytes(9_000).toString("hex"), "\ud800"];
    const written = await Promise.all(ids.map((id) => recording.mark("orders", id, "handled")));
    expect({ written, failures }).toEqual({ written: ids.map(() => true), failures: [] });
    expect(await store.counts(migration)).toMatchObject([{ source: "orders", handled: ids.length }]);
  });

  test("says what is wrong, without the credentials", async () => {
    const absent = postgresMigrationStore(pools[0], { table: "nowhere" });
    await expect(absent.read("m")).rejects.toMatchObject({ code: "not-found" });
    const url = new URL(place.url);
    url.password = "canary-secret";
    const pool = openPool(url.href);
    const refused = await postgresMigrationStore(pool)
      .read("m")
      .catch((error: unknown) => error);
    expect(refused).toMatchObject({ code: expect.stringMatching(/unauthorized|unreachable/) });
    expect(String((refused as Error).message)).not.toContain("canary");
    await pool.end();
  });
});
