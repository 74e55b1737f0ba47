import { expect, it } from "vitest";
import { queue } from "../../../core/destination.ts";
import { type PostgresOutbox, postgresOutbox } from "../../../patterns/outbox/postgres/index.ts";
import type { OutboxClaim, OutboxSettlement } from "../../../patterns/outbox/store.ts";
import { describePostgres } from "../../brokers/suite.ts";
import { useOwnPool } from "./own-pool.ts";
import {
  bodyOf,
  claimSome,
  inTransaction,
  LONG_MS,
  openOutbox,
  type Step,
  sendAll,
  steps,
  stepsOf,
  writeSteps,
} from "./postgres-outbox.ts";

const error = { code: "refused", message: "the broker refused it" };
const stepsOfKey = (key: string, count: number, from = 0): Step[] =>
  Array.from({ length: count }, (_, step) => ({ key, step: from + step }));

const PATIENT = { timeout: 30_000 };

describePostgres("claims of an outbox on Postgres", (broker) => {
  const { pool } = useOwnPool(broker);

  function defined(claim: OutboxClaim | undefined): OutboxClaim {
    return claim ?? expect.fail("nothing was claimed");
  }

  /** Says the same of every row of a claim. */
  function settleAll(
    store: PostgresOutbox,
    claim: OutboxClaim,
    settlement: (position: number) => OutboxSettlement,
  ): Promise<readonly number[]> {
    return store.settle(
      claim.token,
      claim.rows.map(({ position }) => settlement(position)),
    );
  }

  it("hands a row out that commits after rows with higher positions were sent", async () => {
    const { store, outbox } = await openOutbox(pool(), { table: "late" });
    const slow = await pool().connect();
    try {
      await slow.query("BEGIN");
      await outbox.send(slow, steps, { key: "slow", step: 1 });
      await outbox.send(slow, steps, { key: "shared", step: 1 });
      await writeSteps(pool(), outbox, [...stepsOfKey("fast", 3), { key: "shared", step: 2 }]);
      const first = defined(await claimSome(store));
      expect(stepsOf(first)).toHaveLength(4);
      await slow.query("COMMIT");
      // Its key is in flight, with a higher position.
      const beside = await claimSome(store);
      expect(stepsOf(beside)).not.toContainEqual({ key: "shared", step: 1 });
      if (beside !== undefined) await sendAll(store, beside);
      await sendAll(store, first);
      const after = await claimSome(store);
      const found = [...stepsOf(beside), ...stepsOf(after)].sort((a, b) => a.key.localeCompare(b.key));
      expect(found).toEqual([
        { key: "shared", step: 1 },
        { key: "slow", step: 1 },
      ]);
      const lower = Math.min(...[...(beside?.rows ?? []), ...(after?.rows ?? [])].map(({ position }) => position));
      expect(lower).toBeLessThan(Math.min(...first.rows.map(({ position }) => position)));
    } finally {
      slow.release(true);
    }
  });

  it("hands nobody the next row of a key that is in flight", async () => {
    const { store, outbox } = await openOutbox(pool(), { table: "hole" });
    await writeSteps(pool(), outbox, stepsOfKey("a", 10));
    const first = defined(await claimSome(store, 3));
    expect(stepsOf(first)).toEqual(stepsOfKey("a", 3));
    const other = (await openOutbox(pool(), { table: "hole" })).store;
    expect(await claimSome(other)).toBeUndefined();
    expect(await claimSome(store)).toBeUndefined();
    await writeSteps(pool(), outbox, stepsOfKey("b", 1));
    const [row] = first.rows;
    await store.settle(first.token, [{ position: row?.position ?? 0, outcome: "sent" }]);
    expect(stepsOf(await claimSome(other)).filter(({ key }) => key === "a")).toEqual([]);
    expect(await sendAll(store, first)).toEqual([row?.position]);
    expect(stepsOf(await claimSome(other))).toEqual(expect.arrayContaining(stepsOfKey("a", 7, 3)));
  });

  it("keeps the order of every key under claims, failures, releases and dead relays of four at once", async () => {
    const { outbox } = await openOutbox(pool(), { table: "storm" });
    const keys = Array.from({ length: 24 }, (_, index) => `key-${index}`);
    const total = keys.length * 20;
    const sent = new Map<string, number[]>();
    let count = 0;
    const relay = async (number: number): Promise<void> => {
      const { store } = await openOutbox(pool(), { table: "storm" });
      let turn = number;
      while (count < total) {
        const claim = await store.claim({ relay: `relay-${number}`, limit: 7, leaseMs: LONG_MS });
        if (claim === undefined) {
          await new Promise((resolve) => setImmediate(resolve));
          continue;
        }
        const failing = new Set<string>();
        const settlements = claim.rows.map((row): OutboxSettlement => {
          const { key, step } = bodyOf(row);
          turn = (turn * 31 + 7) % 101;
          if (failing.has(key)) return { position: row.position, outcome: "released" };
          if (turn % 9 === 0) {
            failing.add(key);
            return { position: row.position, outcome: "failed", error, retryInMs: turn % 2 === 0 ? 0 : 20 };
          }
          sent.set(key, [...(sent.get(key) ?? []), step]);
          count++;
          return { position: row.position, outcome: "sent" };
        });
        const half = Math.floor(settlements.length / 2);
        const lost = await Promise.all([
          store.settle(claim.token, settlements.slice(0, half)),
          store.settle(claim.token, settlements.slice(half)),
        ]);
        expect(lost.flat()).toEqual([]);
      }
    };
    const writing = keys.map(async (key, index) => {
      for (let step = 0; step < 20; step += 4) {
        await inTransaction(pool(), async (client) => {
          await outbox.sendMany(
            client,
            steps,
            stepsOfKey(key, 4, step).map((body) => ({ body })),
          );
          if (index % 5 === 0) await client.query("SELECT pg_sleep(0.01)");
        });
      }
    });
    await Promise.all([...[1, 2, 3, 4].map(relay), ...writing]);
    for (const key of keys) expect(sent.get(key), key).toEqual(Array.from({ length: 20 }, (_, step) => step));
  });

  it("lets a failed row hold its key until it is due, and other keys pass", async () => {
    const { store, outbox } = await openOutbox(pool(), { table: "failing" });
    await writeSteps(pool(), outbox, [...stepsOfKey("a", 3), ...stepsOfKey("b", 1)]);
    const claim = defined(await claimSome(store));
    const [head, ...others] = claim.rows.filter(({ key }) => key === "a");
    const b = claim.rows.find(({ key }) => key === "b");
    await store.settle(claim.token, [
      { position: head?.position ?? 0, outcome: "failed", error, retryInMs: LONG_MS },
      ...others.map(({ position }) => ({ position, outcome: "released" }) as const),
      { position: b?.position ?? 0, outcome: "sent" },
    ]);
    await writeSteps(pool(), outbox, [...stepsOfKey("a", 1, 3), ...stepsOfKey("b", 1, 1)]);
    const next = defined(await claimSome(store));
    expect(stepsOf(next)).toEqual([{ key: "b", step: 1 }]);
    await sendAll(store, next);
    expect((await store.health()).unsent).toBe(4);
    await pool().query("UPDATE failing SET due_at = now() WHERE holds");
    const again = defined(await claimSome(store));
    expect(stepsOf(again)[0]).toEqual({ key: "a", step: 0 });
    expect(again.rows[0]?.attempts).toBe(1);
    await sendAll(store, again);
    expect(stepsOf(await claimSome(store))).toEqual(stepsOfKey("a", 3, 1));
  });

  it("lets an unordered row that failed fall behind", async () => {
    const { store, outbox } = await openOutbox(pool(), { table: "unordered" });
    const loose = queue<Step>("loose", { key: ({ key }) => key });
    await inTransaction(pool(), (client) =>
      outbox.sendMany(
        client,
        loose,
        stepsOfKey("a", 2).map((body) => ({ body })),
      ),
    );
    const claim = defined(await claimSome(store));
    const [head, other] = claim.rows;
    await store.settle(claim.token, [
      { position: head?.position ?? 0, outcome: "failed", error, retryInMs: LONG_MS },
      { position: other?.position ?? 0, outcome: "released" },
    ]);
    expect(stepsOf(await claimSome(store))).toEqual([{ key: "a", step: 1 }]);
  });

  it("quarantines with the error, holding the key or letting it pass, and retries or discards when told", async () => {
    const { store, outbox } = await openOutbox(pool(), { table: "quarantine" });
    for (const holdsKey of [true, false]) {
      const key = holdsKey ? "held" : "passed";
      await writeSteps(pool(), outbox, stepsOfKey(key, 3));
      const claim = defined(await claimSome(store, 1));
      await settleAll(store, claim, (position) => ({ position, outcome: "quarantined", error, holdsKey }));
      const next = await claimSome(store);
      expect(stepsOf(next)).toEqual(holdsKey ? [] : stepsOfKey(key, 2, 1));
      if (next !== undefined) await sendAll(store, next);
    }
    const [held, passed] = await store.listQuarantined({ limit: 10 });
    expect(held).toMatchObject({ key: "held", error, holdsKey: true, attempts: 1 });
    expect(passed).toMatchObject({ key: "passed", error, holdsKey: false });
    expect(await store.listQuarantined({ limit: 10, after: held?.position ?? 0 })).toHaveLength(1);
    expect(await store.listQuarantined({ limit: 1 })).toHaveLength(1);
    expect(await store.health()).toMatchObject({ quarantined: 2, unsent: 2 });

    expect(await store.retryQuarantined([passed?.position ?? 0, 999_999])).toEqual([passed?.position]);
    const retried = defined(await claimSome(store));
    expect(stepsOf(retried)).toEqual([{ key: "passed", step: 0 }]);
    expect(retried.rows[0]?.attempts).toBe(0);
    await sendAll(store, retried);

    expect(await store.retryQuarantined([held?.position ?? 0])).toEqual([held?.position]);
    const all = defined(await claimSome(store));
    expect(stepsOf(all)).toEqual(stepsOfKey("held", 3));
    await store.settle(all.token, [
      { position: all.rows[0]?.position ?? 0, outcome: "quarantined", error, holdsKey: true },
      ...all.rows.slice(1).map(({ position }) => ({ position, outcome: "released" }) as const),
    ]);
    expect(await claimSome(store)).toBeUndefined();
    expect(await store.discardQuarantined([held?.position ?? 0])).toEqual([held?.position]);
    expect(await store.discardQuarantined([held?.position ?? 0])).toEqual([]);
    expect(stepsOf(await claimSome(store))).toEqual(stepsOfKey("held", 2, 1));
  });

  it("takes over what a dead relay had, not before its lease is over, and heeds no more what that one says of it", async () => {
    const { store, outbox } = await openOutbox(pool(), { table: "dying" });
    await writeSteps(pool(), outbox, stepsOfKey("a", 3));
    const dead = defined(await claimSome(store, 10, 600));
    expect(await store.renew(dead.token, 600)).toBe("renewed");
    const other = (await openOutbox(pool(), { table: "dying" })).store;
    expect(await claimSome(other)).toBeUndefined();
    let taken: OutboxClaim | undefined;
    await expect
      .poll(async () => {
        taken = await claimSome(other);
        return stepsOf(taken);
      }, PATIENT)
      .toEqual(stepsOfKey("a", 3));
    expect(await store.renew(dead.token, LONG_MS)).toBe("lost");
    const [first, second, third] = dead.rows.map(({ position }) => position);
    const said = await store.settle(dead.token, [
      { position: first ?? 0, outcome: "sent" },
      { position: second ?? 0, outcome: "failed", error, retryInMs: LONG_MS },
      { position: third ?? 0, outcome: "quarantined", error, holdsKey: true },
    ]);
    // What the broker has is gone; of the rest nothing is changed, and the shard is not freed.
    expect(said).toEqual([second, third]);
    expect(await claimSome(store)).toBeUndefined();
    expect((await store.health()).quarantined).toBe(0);
    expect(await sendAll(other, defined(taken))).toEqual([first]);
    expect((await store.health()).unsent).toBe(0);
  });

  it("counts a failure once whose answer was lost and that is said again", async () => {
    const { outbox } = await openOutbox(pool(), { table: "unanswered" });
    await writeSteps(pool(), outbox, stepsOfKey("a", 2));
    let lost = false;
    const losing = postgresOutbox(
      {
        query: async (text, values) => {
          const answer = await pool().query(text, values);
          if (lost) throw new Error("the connection broke");
          return answer;
        },
      },
      { table: "unanswered" },
    );
    const claim = defined(await claimSome(losing));
    const [head, next] = claim.rows.map(({ position }) => position);
    const failed = [{ position: head ?? 0, outcome: "failed", error, retryInMs: 0 }] as const;
    lost = true;
    await expect(losing.settle(claim.token, failed)).rejects.toMatchObject({ code: "unreachable" });
    lost = false;
    await losing.settle(claim.token, failed);
    await losing.settle(claim.token, [{ position: next ?? 0, outcome: "released" }]);
    expect(defined(await claimSome(losing)).rows.map(({ attempts }) => attempts)).toEqual([1]);
  });

  it("removes what is sent, or keeps it for the time it is told, and cleans it bit by bit", async () => {
    const { store, outbox } = await openOutbox(pool(), { table: "kept", keepSentMs: 300 });
    await writeSteps(pool(), outbox, stepsOfKey("a", 10));
    await sendAll(store, defined(await claimSome(store)));
    expect((await pool().query("SELECT count(*)::int AS n FROM kept")).rows).toEqual([{ n: 0 }]);
    const rows =
      "SELECT key, destination, attempts, convert_from(body, 'utf8') AS body FROM kept_sent ORDER BY position";
    const [first] = (await pool().query(rows)).rows;
    expect(first).toEqual({ key: "a", destination: "steps", attempts: 0, body: '{"key":"a","step":0}' });
    await pool().query("UPDATE kept_sent SET sent_at = now() + interval '1 hour' WHERE position % 5 = 0");
    let removed = 0;
    await expect
      .poll(async () => {
        const some = await store.clean(3);
        expect(some).toBeLessThanOrEqual(3);
        removed += some;
        return removed;
      }, PATIENT)
      .toBe(8);
    expect((await pool().query("SELECT count(*)::int AS n FROM kept_sent")).rows).toEqual([{ n: 2 }]);
  });

  it("claims by its indexes, whatever waits for its time or was sent", async () => {
    const { outbox } = await openOutbox(pool(), { table: "large", keepSentMs: LONG_MS });
    const columns = "shard, id, kind, destination, body, content_type, priority, ordered, discard_unroutable";
    const values = "SELECT i % 64, i::text, 'queue', 'steps', '\\x7b7d'::bytea, 'application/json', 0, false, false";
    await pool().query(`
      INSERT INTO large (${columns}, due_at) ${values}, now() + interval '1 day' FROM generate_series(1, 20000) AS i`);
    await pool().query(`
      INSERT INTO large_sent (position, ${columns}) ${values.replace("SELECT", "SELECT i,")}
      FROM generate_series(1, 20000) AS i`);
    await writeSteps(pool(), outbox, stepsOfKey("a", 5));
    await pool().query("ANALYZE large, large_sent");
    const asked: [string, unknown[] | undefined][] = [];
    const watching = postgresOutbox(
      {
        query: (text, given) => {
          asked.push([text, given]);
          return pool().query(text, given);
        },
      },
      { table: "large", keepSentMs: LONG_MS },
    );
    const claim = defined(await claimSome(watching));
    await sendAll(watching, claim);
    // The shards, the rows, a look for shards that are missing, and the settlement.
    expect(asked).toHaveLength(4);
    for (const [text, given] of asked) {
      const plan = JSON.stringify((await pool().query(`EXPLAIN (FORMAT JSON) ${text}`, given)).rows);
      expect(plan).not.toMatch(/"Node Type":"Seq Scan"[^{}]*"Relation Name":"(large|large_sent)"/);
    }
  });

  it("tells how old and how many, and what may be the cause of a stall", async () => {
    const { store, outbox } = await openOutbox(pool(), { table: "healthy", stallAfterMs: 200 });
    expect(await store.health()).toMatchObject({ unsent: 0, oldestUnsentMs: 0, quarantined: 0 });
    await writeSteps(pool(), outbox, [...stepsOfKey("a", 2), ...stepsOfKey("b", 2)]);
    await pool().query("UPDATE healthy SET created_at = now() - interval '10 seconds' WHERE key = 'b'");
    const { unsent, oldestUnsentMs } = await store.health();
    expect(unsent).toBe(4);
    expect(oldestUnsentMs).toBeGreaterThanOrEqual(10_000);
    const causes = async () => (await store.health()).stalls.map(({ cause }) => cause);
    const old = await pool().connect();
    try {
      await old.query("BEGIN");
      await old.query("SELECT pg_current_xact_id()");
      await expect.poll(causes, PATIENT).toEqual(["open-transaction"]);
    } finally {
      old.release(true);
    }
    await expect.poll(causes, PATIENT).toEqual([]);
    const claim = defined(await claimSome(store, 100, 1));
    await expect.poll(causes, PATIENT).toEqual(["expired-claim"]);
    await settleAll(store, claim, (position) => ({ position, outcome: "quarantined", error, holdsKey: true }));
    expect(await causes()).toEqual([]);
    await writeSteps(pool(), outbox, stepsOfKey("a", 1, 2));
    expect(await causes()).toEqual(["held-key"]);
  });
});
