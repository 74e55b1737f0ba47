import { inspect } from "node:util";
import { sql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/node-postgres";
import { CompiledQuery, Kysely, PostgresDialect, type Transaction } from "kysely";
import { expect, it } from "vitest";
import { queue, topic } from "../../../core/destination.ts";
import { HEADER } from "../../../core/system-headers.ts";
import type { PostgresTransaction } from "../../../patterns/outbox/postgres/index.ts";
import type { OutboxClaim } from "../../../patterns/outbox/store.ts";
import { describePostgres } from "../../brokers/suite.ts";
import { useOwnPool } from "./own-pool.ts";
import { bodyOf, claimSome, inTransaction, openOutbox, sendAll, steps, stepsOf } from "./postgres-outbox.ts";

interface Mail {
  readonly to: string;
}
const mails = queue<Mail>("mails", { priorities: 4 });
const placed = topic<Mail>("order.placed", {
  key: ({ to }) => to,
  routingKey: () => "geo.us",
  ttlMs: 5_000,
  whenUnroutable: "discard",
});

const PATIENT = { timeout: 30_000 };

describePostgres("writing to an outbox on Postgres", (broker) => {
  const { pool } = useOwnPool(broker);

  it("sends what is committed, as it was given, and nothing that was rolled back", async () => {
    const { store, outbox } = await openOutbox(pool(), { table: "committed" });
    const refused = inTransaction(pool(), async (client) => {
      await outbox.send(client, mails, { to: "nobody" });
      await outbox.sendMany(client, mails, [{ body: { to: "nobody" } }, { body: { to: "nobody" } }]);
      throw new Error("no stock");
    });
    await expect(refused).rejects.toThrow("no stock");
    expect(await claimSome(store)).toBeUndefined();

    const headers = { traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", quote: `"'\\?$1ä` };
    const before = Date.now();
    const { id } = await inTransaction(pool(), async (client) => {
      const receipt = await outbox.send(client, mails, { to: "ä ' \\ ? $1" }, { headers, priority: 3 });
      await outbox.publish(client, placed, { to: "b" }, { id: "own", key: "k" });
      expect(await claimSome(store), "before the commit").toBeUndefined();
      return receipt;
    });
    const claim = await claimSome(store);
    const [mail, event] = claim?.rows ?? [];
    expect(mail && bodyOf(mail)).toEqual({ to: "ä ' \\ ? $1" });
    expect(mail).toMatchObject({
      id,
      to: { kind: "queue", name: "mails" },
      key: undefined,
      routingKey: undefined,
      contentType: "application/json",
      priority: 3,
      expiresAt: undefined,
      ordered: false,
      discardUnroutable: false,
      attempts: 0,
    });
    expect({ ...mail?.headers }).toEqual(headers);
    expect(event).toMatchObject({
      id: "own",
      to: { kind: "topic", name: "order.placed" },
      key: "k",
      routingKey: "geo.us",
      discardUnroutable: true,
    });
    expect(event?.expiresAt).toBe(Number(event?.headers[HEADER.expiresAt]));
    expect(event?.expiresAt).toBeGreaterThanOrEqual(before + 5_000);
    expect(Math.abs((event?.createdAt ?? 0) - before)).toBeLessThan(60_000);
  });

  it("writes many in one statement, in order, and beyond what one statement can carry", async () => {
    const { store, outbox } = await openOutbox(pool(), { table: "many" });
    const texts: string[] = [];
    await inTransaction(pool(), async (client) => {
      const counting: PostgresTransaction = {
        query: (text, values) => {
          texts.push(text);
          return client.query(text, values);
        },
      };
      const few = Array.from({ length: 50 }, (_, step) => ({ body: { key: "a", step } }));
      const receipts = await outbox.sendMany(counting, steps, few);
      expect(receipts).toHaveLength(50);
      expect(texts).toHaveLength(1);
      await outbox.sendMany(counting, steps, []);
      expect(texts).toHaveLength(1);
    });
    expect(stepsOf(await claimSome(store)).map(({ step }) => step)).toEqual(Array.from({ length: 50 }, (_, i) => i));
    await inTransaction(pool(), (client) =>
      outbox.sendMany(
        client,
        mails,
        Array.from({ length: 5_000 }, (_, index) => ({ body: { to: `${index}` } })),
      ),
    );
    expect((await pool().query("SELECT count(*)::int AS n FROM many")).rows).toEqual([{ n: 5_050 }]);
  });

  it("keeps what is not due yet, and hands it out when it is", async () => {
    const { store, outbox } = await openOutbox(pool(), { table: "delayed" });
    await inTransaction(pool(), async (client) => {
      await outbox.send(client, mails, { to: "late" }, { delayMs: 3_600_000 });
      await outbox.send(client, mails, { to: "soon" }, { delayMs: 300 });
    });
    let claim: OutboxClaim | undefined;
    await expect
      .poll(async () => {
        claim = await claimSome(store);
        return claim?.rows.map((row) => bodyOf(row));
      }, PATIENT)
      .toEqual([{ to: "soon" }]);
    const { token = "", rows: [soon] = [] } = claim ?? {};
    const now = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::float8 AS now";
    const [row] = (await pool().query<{ now: number }>(now)).rows;
    expect((row?.now ?? 0) - (soon?.createdAt ?? 0)).toBeGreaterThanOrEqual(300);
    expect((await store.health()).unsent).toBe(2);
    // They may be in one shard, which is free again only now.
    expect(await store.settle(token, [{ position: soon?.position ?? 0, outcome: "sent" }])).toEqual([]);
    await pool().query("UPDATE delayed SET due_at = now() WHERE due_at > now() + interval '1 minute'");
    expect((await claimSome(store))?.rows.map((row) => bodyOf(row))).toEqual([{ to: "late" }]);
  });

  it("takes a transaction of Kysely, by an executor of two lines", async () => {
    const { store, outbox } = await openOutbox(pool(), { table: "by_kysely" });
    const executor = (transaction: Transaction<unknown>): PostgresTransaction => ({
      query: (text, values = []) => transaction.executeQuery(CompiledQuery.raw(text, values)),
    });
    // Its own pool is not ended with it: the dialect is given ours.
    const database = new Kysely<unknown>({ dialect: new PostgresDialect({ pool: pool() }) });
    const write = (to: string) =>
      database.transaction().execute(async (transaction) => {
        await outbox.sendMany(executor(transaction), mails, [
          { body: { to } },
          { body: { to }, options: { delayMs: 1 } },
        ]);
        if (to === "nobody") throw new Error("rolled back");
      });
    await expect(write("nobody")).rejects.toThrow("rolled back");
    await write("a");
    await expectMails(store, ["a", "a"]);
  });

  it("takes a transaction of Drizzle, by an executor of two lines", async () => {
    const { store, outbox } = await openOutbox(pool(), { table: "by_drizzle" });
    const database = drizzle(pool());
    type DrizzleTransaction = Parameters<Parameters<typeof database.transaction>[0]>[0];
    const executor = (transaction: DrizzleTransaction): PostgresTransaction => ({
      query: (text, values = []) =>
        transaction.execute(sql(Object.assign(text.split(/\$\d+/), { raw: [] }), ...values)),
    });
    const write = (to: string) =>
      database.transaction(async (transaction) => {
        await outbox.sendMany(executor(transaction), mails, [
          { body: { to } },
          { body: { to }, options: { delayMs: 1 } },
        ]);
        if (to === "nobody") throw new Error("rolled back");
      });
    await expect(write("nobody")).rejects.toThrow("rolled back");
    await write("a");
    await expectMails(store, ["a", "a"]);
    // What Drizzle wraps is found out all the same.
    const missing = await openOutbox(pool(), { table: "dropped" });
    await pool().query("DROP TABLE dropped");
    const failed = database.transaction((transaction) =>
      missing.outbox.send(executor(transaction), mails, { to: "canary" }),
    );
    await expect(failed).rejects.toMatchObject({ code: "not-found", cause: { code: "42P01" } });
    const error: unknown = await failed.catch((reason) => reason);
    expect(inspect(error, { depth: 10 })).not.toContain("canary");
  });

  async function expectMails(store: Awaited<ReturnType<typeof openOutbox>>["store"], expected: readonly string[]) {
    const found: string[] = [];
    await expect
      .poll(async () => {
        const claim = await claimSome(store);
        if (claim !== undefined) {
          found.push(...claim.rows.map((row) => bodyOf<Mail>(row).to));
          await sendAll(store, claim);
        }
        return found;
      }, PATIENT)
      .toEqual(expected);
  }

  it("refuses a pool, and a client without a transaction, whose messages would go their own way", async () => {
    const { store, outbox } = await openOutbox(pool(), { table: "refused" });
    await expect(outbox.send(pool(), mails, { to: "a" })).rejects.toMatchObject({ code: "invalid" });
    const client = await pool().connect();
    try {
      await client.query("SELECT 1");
      await expect(outbox.send(client, mails, { to: "a" })).rejects.toMatchObject({ code: "invalid" });
      await client.query("BEGIN");
      await client.query("SELECT nothing").catch(() => undefined);
      await expect(outbox.send(client, mails, { to: "a" })).rejects.toMatchObject({ code: "conflict" });
      await client.query("ROLLBACK");
    } finally {
      client.release();
    }
    expect((await store.health()).unsent).toBe(0);
  });

  it("wakes who listens at the commit, and after the connection was lost", async () => {
    const { store, outbox } = await openOutbox(pool(), { table: "notifying", notify: true });
    let wakes = 0;
    const end = await store.listen?.(() => {
      wakes++;
    });
    const baseline = wakes;
    await inTransaction(pool(), (client) => outbox.send(client, mails, { to: "a" }));
    await expect.poll(() => wakes, PATIENT).toBeGreaterThan(baseline);
    const killed = wakes;
    await pool().query(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()",
    );
    await expect.poll(() => wakes, PATIENT).toBeGreaterThan(killed);
    await end?.();
    await end?.();
    const listeners =
      "SELECT count(*)::int AS n FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = current_database()";
    await expect.poll(async () => (await pool().query<{ n: number }>(listeners)).rows[0]?.n, PATIENT).toBe(0);
    expect((await openOutbox(pool(), { table: "silent" })).store.listen).toBeUndefined();
  });
});
