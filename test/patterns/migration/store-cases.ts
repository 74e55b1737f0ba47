import type { MigrationStore, StoredMigration } from "anybroker/migration";
import { describe, expect, test } from "vitest";
import { eventually } from "../../eventually.ts";

let names = 0;
const fresh = (): string => `m-${process.pid}-${names++}`;
const beatOf = (instance: string, acting = 0, leaseMs = 60_000) => ({ instance, acting, leaseMs, report: "{}" });

/** The promises of a state store, put to the test. Two stores are two processes on one database. */
export function storeCases(name: string, open: () => Promise<readonly [MigrationStore, MigrationStore]>): void {
  describe(name, () => {
    test("begins without a document, and knows nothing of other migrations", async () => {
      const [store, other] = await open();
      const [one, two] = [fresh(), fresh()];
      expect(await store.read(one)).toMatchObject({ revision: 0, document: undefined, instances: [] });
      expect(await store.change(one, 0, `{"a":1}`)).toBe("changed");
      expect(await other.read(one)).toMatchObject({ revision: 1, document: `{"a":1}` });
      expect(await other.read(two)).toMatchObject({ revision: 0, document: undefined });
      await other.forget(one);
      expect(await store.read(one)).toMatchObject({ revision: 0, document: undefined });
    });

    test("of many changes at once one wins", async () => {
      const stores = await open();
      const migration = fresh();
      for (let revision = 0; revision < 5; revision++) {
        const changes = Array.from({ length: 8 }, (_, index) =>
          (stores[index % 2] as MigrationStore).change(migration, revision, JSON.stringify({ index, revision })),
        );
        const ends = await Promise.all(changes);
        expect(ends.filter((end) => end === "changed")).toHaveLength(1);
        const { document } = await stores[0].read(migration);
        expect(JSON.parse(document as string).index).toBe(ends.indexOf("changed"));
      }
      expect(await stores[0].change(migration, 3, "{}")).toBe("conflict");
      expect((await stores[1].read(migration)).revision).toBe(5);
    });

    test("a beat is seen, replaced, ends with its lease, and by leaving", async () => {
      const [store, other] = await open();
      const migration = fresh();
      const acting = (read: StoredMigration) =>
        Object.fromEntries(read.instances.map((each) => [each.instance, each.acting]));
      await store.beat(migration, beatOf("a", -1));
      expect(acting(await other.beat(migration, beatOf("b", 3)))).toEqual({ a: -1, b: 3 });
      await store.beat(migration, beatOf("a", 4));
      await other.beat(migration, beatOf("c", 0, 50));
      expect(acting(await other.read(migration))).toMatchObject({ a: 4, b: 3 });
      await eventually(async () => expect(acting(await store.read(migration))).toEqual({ a: 4, b: 3 }));
      await other.leave(migration, "b");
      const [left] = (await store.read(migration)).instances;
      expect(left).toMatchObject({ instance: "a", report: "{}" });
      expect(left?.remainingMs).toBeGreaterThan(0);
      expect(left?.remainingMs).toBeLessThanOrEqual(60_000);
    });

    test("whoever beats is seen by every change that the beat did not show", async () => {
      const stores = await open();
      for (let round = 0; round < 10; round++) {
        const migration = fresh();
        const joining = stores[0].beat(migration, beatOf("joins", -1));
        const announcing = stores[1].change(migration, 0, "{}").then(() => stores[1].read(migration));
        const [seen, announced] = await Promise.all([joining, announcing]);
        expect(seen.revision === 1 || announced.instances.length === 1).toBe(true);
      }
    });

    test("acknowledgements rise and never fall, also many at once", async () => {
      const [store, other] = await open();
      const migration = fresh();
      const scopes = Array.from({ length: 300 }, (_, index) => `from:${index}`);
      await Promise.all([
        store.acknowledgeBarrier(
          migration,
          scopes.map((scope) => ({ scope, epoch: 2 })),
        ),
        other.acknowledgeBarrier(
          migration,
          [...scopes].reverse().map((scope) => ({ scope, epoch: 5 })),
        ),
        store.acknowledgeBarrier(migration, [
          { scope: "from:1", epoch: 1 },
          { scope: "from:1", epoch: 3 },
        ]),
      ]);
      expect(await other.barrierAcks(migration, ["from:1", "none", "from:299"])).toEqual([5, 0, 5]);
      await store.clearBarrierAcks(migration);
      expect(await other.barrierAcks(migration, ["from:1"])).toEqual([0]);
    });

    test("the journal tells who is missing, dead and unexpected, page by page", async () => {
      const [store, other] = await open();
      const migration = fresh();
      const ids = Array.from({ length: 40 }, (_, index) => `id-${String(index).padStart(2, "0")}`);
      const mark = (mark: "published" | "handled" | "dead", some: readonly string[], source = "orders") =>
        store.mark(
          migration,
          some.map((id) => ({ source, id, mark })),
        );
      await mark("published", ids);
      await Promise.all([
        mark("handled", ids.slice(0, 30)),
        other.mark(
          migration,
          ids.slice(5, 35).map((id) => ({ source: "orders", id, mark: "handled" })),
        ),
      ]);
      await mark("dead", ["id-36", "id-01"]);
      await mark("handled", ["stray"]);
      await mark("published", ["__proto__", "ä ö"], "other");
      const counts = Object.fromEntries((await other.counts(migration)).map(({ source, ...rest }) => [source, rest]));
      expect(counts.orders).toEqual({ published: 40, handled: 36, missing: 4, dead: 1, unexpected: 1 });
      expect(counts.other).toEqual({ published: 2, handled: 0, missing: 2, dead: 0, unexpected: 0 });
      expect(await other.list(migration, "orders", "missing", undefined, 3)).toEqual(["id-35", "id-37", "id-38"]);
      expect(await other.list(migration, "orders", "missing", "id-38", 3)).toEqual(["id-39"]);
      expect(await other.list(migration, "orders", "dead", undefined, 9)).toEqual(["id-36"]);
      expect(await other.list(migration, "orders", "unexpected", undefined, 9)).toEqual(["stray"]);
      expect(await other.list(migration, "other", "missing", undefined, 9)).toEqual(["__proto__", "ä ö"]);
      // What is folded is gone, and counted.
      await eventually(async () => {
        await store.fold(migration, 0, 10);
        const [orders] = (await other.counts(migration)).filter(({ source }) => source === "orders");
        expect(orders).toMatchObject({ published: 40, handled: 36, missing: 4 });
        expect(await store.fold(migration, 0, 10)).toBe(0);
      });
      expect(await store.fold(migration, 60_000, 10)).toBe(0);
      expect(await other.list(migration, "orders", "missing", undefined, 9)).toHaveLength(4);
    });
  });
}
