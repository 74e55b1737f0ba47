import { isMessagingError, queue, subscription, topic } from "anybroker";
import { type Migration, memoryMigrationStore, migration } from "anybroker/migration";
import { expect, onTestFinished, test } from "vitest";
import { z } from "zod";
import { BUCKETS, bucketOf, hasBucket } from "../../../patterns/migration/state.ts";
import { eventually } from "../../eventually.ts";
import { memoryPair, QUICK } from "./world.ts";

const sorted = (numbers: readonly number[]): number[] => [...numbers].sort((one, other) => one - other);

async function started(
  options: Parameters<typeof migration>[0],
  consume: (broker: Migration) => void,
): Promise<Migration> {
  const broker = migration(options);
  onTestFinished(() => broker.stop({ timeoutMs: 500 }));
  consume(broker);
  await broker.start();
  await broker.control.advance();
  await broker.control.advance();
  return broker;
}

test("keys are spread evenly, and always alike", () => {
  // Instances of two versions have to agree: these never change.
  expect(["a", "customer-1", "0190b6b4"].map(bucketOf)).toEqual([2055, 3502, 5735]);
  const counts = Array<number>(10).fill(0);
  for (let n = 0; n < 20_000; n++) {
    const decile = Math.floor((bucketOf(`order-${n}`) * 10) / BUCKETS);
    counts[decile] = (counts[decile] ?? 0) + 1;
  }
  for (const count of counts) expect(Math.abs(count - 2_000)).toBeLessThan(200);
  expect([hasBucket(0, 0), hasBucket(0.01, 0), hasBucket(0.01, 1), hasBucket(100, BUCKETS - 1)]).toEqual([
    false,
    true,
    false,
    true,
  ]);
});

test("subscriptions with filters wait for what they take, and for no more", async () => {
  const placed = topic<{ n: number }>("placed", {
    ordered: true,
    key: () => "one",
    routingKey: ({ n }) => (n % 3 === 0 ? "eu.de" : "us.ny"),
  });
  const seen: Record<string, number[]> = { eu: [], us: [], all: [] };
  const broker = await started(
    {
      from: memoryPair().from(),
      to: memoryPair().to(),
      destinations: [
        placed,
        subscription(placed, "eu", { filter: "eu.#" }),
        subscription(placed, "us", { filter: "us.*" }),
        subscription(placed, "all"),
      ],
      state: memoryMigrationStore(),
      idempotency: "waived",
      ...QUICK,
    },
    (made) => {
      const slow =
        (name: string) =>
        async ({ n }: { n: number }) => {
          await new Promise((resolve) => setTimeout(resolve, Math.random() * 5));
          seen[name]?.push(n);
        };
      made.subscribe(placed, "eu", slow("eu"), { filter: "eu.#" });
      made.subscribe(placed, "us", slow("us"), { filter: "us.*" });
      made.subscribe(placed, "all", slow("all"));
    },
  );
  const { control } = broker;
  let n = 0;
  const publish = async (count: number): Promise<void> => {
    for (let left = count; left > 0; left--) await broker.publish(placed, { n: n++ });
  };
  await publish(40);
  await control.advance({ share: 100 });
  await publish(40);
  await control.rollback();
  await publish(40);
  await control.advance({ share: 100 });
  await publish(40);
  await eventually(() => expect(seen.all).toHaveLength(160));
  for (const numbers of Object.values(seen)) expect(numbers).toEqual(sorted(numbers));
  expect(seen.eu?.length).toBe(54);
  await eventually(() => expect(seen.us).toHaveLength(106));
});

test("a handler gets the schema's output, and a schema refuses what it refused before", async () => {
  const parsed = queue("parsed", { schema: z.object({ n: z.coerce.number() }), key: () => "k", ordered: true });
  const seen: unknown[] = [];
  const broker = await started(
    {
      from: memoryPair().from(),
      to: memoryPair().to(),
      destinations: [parsed],
      state: memoryMigrationStore(),
      idempotency: "waived",
      ...QUICK,
    },
    (made) => made.consume(parsed, (body) => void seen.push(body)),
  );
  await broker.send(parsed, { n: "1" });
  await broker.control.advance({ share: 100 });
  await broker.sendMany(parsed, [{ body: { n: "2" } }, { body: { n: "3" } }]);
  await eventually(() => expect(seen).toEqual([{ n: 1 }, { n: 2 }, { n: 3 }]));
  await expect(broker.send(parsed, { n: {} } as never)).rejects.toMatchObject({ code: "invalid" });
  const mixed = broker.sendMany(parsed, [{ body: { n: "4" } }, { body: { n: "5" }, options: { id: "" } }]);
  const error = await mixed.catch((cause: unknown) => cause);
  expect(isMessagingError(error, "partly-failed") && error.outcomes.map(({ status }) => status)).toEqual([
    "confirmed",
    "failed",
  ]);
});

test("with order given up, keys go back though the new broker does not answer for them", async () => {
  const pair = memoryPair();
  const orders = queue<{ n: number }>("orders", { key: () => "k", ordered: true });
  const seen: number[] = [];
  let stuck = false;
  const broker = await started(
    {
      from: pair.from(),
      to: pair.to(),
      destinations: [orders],
      state: memoryMigrationStore(),
      idempotency: "waived",
      ...QUICK,
    },
    (made) =>
      made.consume(orders, async ({ n }) => {
        while (stuck && n === 1) await new Promise((resolve) => setTimeout(resolve, 10));
        seen.push(n);
      }),
  );
  const { control } = broker;
  await broker.send(orders, { n: 0 });
  await eventually(() => expect(seen).toEqual([0]));
  await control.advance({ share: 100 });
  stuck = true;
  await broker.send(orders, { n: 1 });
  await control.rollback();
  // It waits for what its key has on the new broker.
  await expect(broker.send(orders, { n: 2 }, { timeoutMs: 300 })).rejects.toMatchObject({ code: "timeout" });
  const abort = new AbortController();
  const waits = broker.send(orders, { n: 2 }, { signal: abort.signal });
  abort.abort();
  await expect(waits).rejects.toMatchObject({ code: "aborted" });
  await control.advance({ share: 100 });
  await control.rollback({ accept: ["order"] });
  await broker.send(orders, { n: 3 }, { timeoutMs: 20_000 });
  await eventually(() => expect(seen).toEqual([0, 3]));
  stuck = false;
  await eventually(() => expect(seen).toEqual([0, 3, 1]));
});

test("concurrency counts over both brokers, and a consumer is paused and stopped on both", async () => {
  const pair = memoryPair();
  const jobs = queue<{ n: number }>("jobs");
  let running = 0;
  let most = 0;
  let done = 0;
  const broker = await started(
    {
      from: pair.from(),
      to: pair.to(),
      destinations: [jobs],
      state: memoryMigrationStore(),
      idempotency: "waived",
      ...QUICK,
    },
    (made) =>
      made.consume(
        jobs,
        async () => {
          most = Math.max(most, ++running);
          await new Promise((resolve) => setTimeout(resolve, 5));
          running--;
          done++;
        },
        { concurrency: 3 },
      ),
  );
  await broker.control.advance({ share: 50 });
  for (let n = 0; n < 100; n++) await broker.send(jobs, { n });
  await eventually(() => expect(done).toBe(100));
  expect(most).toBe(3);
  expect(broker.status().consumers[0]).toMatchObject({
    source: "jobs",
    concurrency: 3,
    succeeded: 100,
    state: "running",
  });
  expect(await broker.depth(jobs)).toMatchObject({ ready: 0, unsettled: 0, exact: true });
});
