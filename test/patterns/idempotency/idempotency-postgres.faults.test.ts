import { randomBytes } from "node:crypto";
import { inspect } from "node:util";
import type { Pool } from "pg";
import { afterAll, beforeAll, describe, expect, it, test } from "vitest";
import { storeConformance } from "../../../conformance/idempotency/index.ts";
import {
  type PostgresDatabase,
  postgresIdempotencySql,
  postgresIdempotencyStore,
} from "../../../patterns/idempotency/postgres-store.ts";
import type { Database } from "../../brokers/postgres.ts";
import { controlsOrNotRun, describePostgres } from "../../brokers/suite.ts";
import { openPool } from "../postgres-pool.ts";
import { consumersInOutages } from "./outage.ts";
import { openStore } from "./postgres-database.ts";

const LONG_MS = 600_000;

describePostgres("the Postgres store", (broker) => {
  let place: Database;
  let pool: Pool;

  beforeAll(async () => {
    place = await broker.newDatabase();
    pool = openPool(place.url);
    await postgresIdempotencyStore(pool).migrate();
  });

  afterAll(async () => {
    await pool.end();
    await place.remove();
  });

  const { controls } = broker;
  storeConformance(
    {
      name: "postgres",
      open: () => openStore(place.url),
      get processes() {
        return { module: new URL("postgres-database.ts", import.meta.url).href, options: place.url };
      },
      ...(controls
        ? { outage: { begin: controls.kill, end: controls.start } }
        : { withoutOutage: "the server was given by URL, so it cannot be stopped" }),
      count: async (prefix) => {
        const text = "SELECT count(*)::int AS n FROM anybroker_idempotency WHERE starts_with(key, $1)";
        return (await pool.query<{ n: number }>(text, [prefix])).rows[0]?.n ?? 0;
      },
    },
    { describe, test, afterAll },
  );

  consumersInOutages(broker, () => openStore(place.url));

  async function claimed(store: ReturnType<typeof postgresIdempotencyStore>, key: string): Promise<string> {
    const result = await store.claim(key, LONG_MS);
    if (result.status !== "claimed") expect.fail(`${key} was ${result.status}`);
    return result.token;
  }

  it("takes one statement to a claim, also of what is held or done, and writes nothing for those", async () => {
    const texts: string[] = [];
    const counting: PostgresDatabase = {
      query: (text, values) => {
        texts.push(text);
        return pool.query(text, values);
      },
    };
    const store = postgresIdempotencyStore(counting);
    const token = await claimed(store, "counted");
    const version = () =>
      pool.query("SELECT ctid, xmin, xmax FROM anybroker_idempotency WHERE key = 'counted'").then(({ rows }) => rows);
    const held = await version();
    expect((await store.claim("counted", LONG_MS)).status).toBe("busy");
    expect(await version()).toEqual(held);
    await store.complete("counted", token, LONG_MS);
    const done = await version();
    expect((await store.claim("counted", LONG_MS)).status).toBe("done");
    expect(await version()).toEqual(done);
    expect(texts).toHaveLength(4);
  });

  it("decides on what others wrote since its statement began: a done record that was taken over is not done", async () => {
    const store = postgresIdempotencyStore(pool);
    await store.complete("taken", await claimed(store, "taken"), 0);
    const other = await pool.connect();
    try {
      await other.query("BEGIN");
      const takenOver =
        "UPDATE anybroker_idempotency SET done = false, token = $1, ends_at = now() + interval '1 hour'";
      await other.query(`${takenOver} WHERE key = 'taken'`, ["0198f6f4-0000-7000-8000-000000000000"]);
      const claim = store.claim("taken", LONG_MS);
      // It waits for the row.
      await expect
        .poll(async () => {
          const waiting = "SELECT count(*)::int AS n FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
          return (await pool.query<{ n: number }>(`${waiting} AND datname = current_database()`)).rows[0]?.n;
        })
        .toBe(1);
      await other.query("COMMIT");
      expect((await claim).status).toBe("busy");
    } finally {
      other.release(true);
    }
  });

  it("answers within its time when the server is frozen, and gives a claim back whose answer came too late", async (context) => {
    const controls = controlsOrNotRun(broker, context);
    const answers: Promise<{ rows: unknown[] }>[] = [];
    const watching: PostgresDatabase = {
      query: (text, values) => {
        const answer = pool.query(text, values);
        answers.push(answer);
        return answer;
      },
    };
    const store = postgresIdempotencyStore(watching, { timeoutMs: 500 });
    await store.claim("warm", LONG_MS);
    await controls.pause();
    try {
      await expect(store.claim("late", LONG_MS)).rejects.toMatchObject({
        code: "unreachable",
        cause: { code: "timeout" },
      });
    } finally {
      await controls.resume();
    }
    expect((await answers[1])?.rows).toMatchObject([{ status: "claimed" }]);
    const status = () => postgresIdempotencyStore(pool).claim("late", LONG_MS);
    await expect.poll(status, { timeout: 240_000 }).toMatchObject({ status: "claimed" });
  });

  it("makes its table once, also if many do at once, in the schema and by the name it is told", async () => {
    await pool.query("CREATE SCHEMA own");
    const options = { schema: "own", table: "Handled" };
    await Promise.all(Array.from({ length: 8 }, () => postgresIdempotencyStore(pool, options).migrate()));
    await claimed(postgresIdempotencyStore(pool, options), "here");
    expect((await pool.query('SELECT key, done FROM own."Handled"')).rows).toEqual([{ key: "here", done: false }]);
    const indexes = await pool.query("SELECT indexdef FROM pg_indexes WHERE schemaname = 'own'");
    expect(indexes.rows).toHaveLength(2);
    await pool.query("DROP SCHEMA own CASCADE");
  });

  it("gives the statements of its table to other tools", async () => {
    const options = { table: "by_hand" };
    for (const statement of postgresIdempotencySql(options)) await pool.query(statement);
    const store = postgresIdempotencyStore(pool, options);
    await store.migrate();
    await claimed(store, "key");
    const columns = (table: string) =>
      pool.query(
        `SELECT column_name, data_type, is_nullable, collation_name FROM information_schema.columns
         WHERE table_name = $1 ORDER BY ordinal_position`,
        [table],
      );
    expect((await columns("by_hand")).rows).toEqual((await columns("anybroker_idempotency")).rows);
  });

  it("finds what has ended by its index, however much is kept", async () => {
    await postgresIdempotencyStore(pool, { table: "many" }).migrate();
    await pool.query(`
      INSERT INTO many SELECT i::text, gen_random_uuid(), true, now() + (i - 18999.5) * interval '1 minute'
      FROM generate_series(1, 20000) AS i`);
    await pool.query("ANALYZE many");
    let text = "";
    const watching: PostgresDatabase = {
      query: (asked, values) => {
        text = asked;
        return pool.query(asked, values);
      },
    };
    const store = postgresIdempotencyStore(watching, { table: "many" });
    expect(await store.clean(700)).toBe(700);
    const plan = JSON.stringify((await pool.query(`EXPLAIN (FORMAT JSON) ${text}`, [700])).rows);
    expect(plan).toContain('"many_ends_at_idx"');
    expect(plan).not.toMatch(/"(Seq Scan|Sort)"/);
    expect(await store.clean(20_000)).toBe(18_299);
    expect((await pool.query("SELECT count(*)::int AS n FROM many")).rows).toEqual([{ n: 1_001 }]);
  });

  it("leaves to another cleaner what that one has", async () => {
    await postgresIdempotencyStore(pool, { table: "shared" }).migrate();
    await pool.query(
      "INSERT INTO shared SELECT i::text, gen_random_uuid(), true, now() FROM generate_series(1, 9) AS i",
    );
    const other = await pool.connect();
    try {
      await other.query("BEGIN");
      await other.query("SELECT FROM shared WHERE key <= '4' FOR UPDATE");
      expect(await postgresIdempotencyStore(pool, { table: "shared" }).clean(9)).toBe(5);
      await other.query("COMMIT");
    } finally {
      other.release();
    }
  });

  it("works with the rights that the documentation lists, and says what is missing", async () => {
    const role = `test_${randomBytes(6).toString("hex")}`;
    const canary = "s3cret-canary";
    await pool.query(`CREATE ROLE ${role} LOGIN PASSWORD '${canary}'`);
    const url = new URL(place.url);
    url.username = role;
    url.password = canary;
    const theirs = openPool(url.href);
    try {
      const schema = (await pool.query<{ s: string }>("SELECT current_schema() AS s")).rows[0]?.s ?? "";
      const store = postgresIdempotencyStore(theirs, { schema });
      await expect(store.claim("rights", LONG_MS)).rejects.toMatchObject({ code: "unauthorized" });
      await pool.query(`GRANT USAGE ON SCHEMA ${schema} TO ${role}`);
      await pool.query(`GRANT SELECT, INSERT, UPDATE, DELETE ON anybroker_idempotency TO ${role}`);
      // The table is there already.
      await store.migrate();
      const token = await claimed(store, "rights");
      expect(await store.renew("rights", token, LONG_MS)).toBe("renewed");
      expect(await store.release("rights", token)).toBe("released");
      expect(await store.complete("rights", await claimed(store, "rights"), LONG_MS)).toBe("completed");
      expect(await store.clean(1)).toBeLessThanOrEqual(1);
      await expect(postgresIdempotencyStore(theirs, { schema, table: "not_mine" }).migrate()).rejects.toMatchObject({
        code: "unauthorized",
      });
    } finally {
      await theirs.end();
      await pool.query(`DROP OWNED BY ${role}`);
      await pool.query(`DROP ROLE ${role}`);
    }
    const refused = openPool(url.href);
    const error: unknown = await postgresIdempotencyStore(refused)
      .claim("rights", LONG_MS)
      .catch((reason) => reason);
    expect(error).toMatchObject({ code: "unauthorized" });
    expect(inspect(error, { depth: 10 })).not.toContain(canary);
    await refused.end();
  });

  it("says what there is not", async () => {
    const [noTable, noSchema] = [{ table: "not_there" }, { schema: "not_there" }];
    for (const options of [noTable, noSchema]) {
      const store = postgresIdempotencyStore(pool, options);
      await expect(store.claim("key", LONG_MS)).rejects.toMatchObject({ code: "not-found" });
    }
    await expect(postgresIdempotencyStore(pool, noSchema).migrate()).rejects.toMatchObject({ code: "not-found" });
    await pool.query("CREATE TABLE another (id int)");
    await expect(postgresIdempotencyStore(pool, { table: "another" }).claim("key", LONG_MS)).rejects.toMatchObject({
      code: "conflict",
    });
  });

  it("tells the refusal of one key from the failure of all", async () => {
    const store = postgresIdempotencyStore(pool, { table: "constrained" });
    await store.migrate();
    await pool.query("ALTER TABLE constrained ADD CHECK (key <> 'refused')");
    await expect(store.claim("refused", LONG_MS)).rejects.toMatchObject({ code: "refused" });
    expect(await store.claim("other", LONG_MS)).toMatchObject({ status: "claimed" });
  });
});
