import { isMessagingError, queue } from "anybroker";
import { memory } from "anybroker/memory";
import { memoryMigrationStore, migration } from "anybroker/migration";
import { expect, test } from "vitest";
import { eventually } from "../../eventually.ts";
import { Fleet, load } from "./load.ts";
import { World } from "./world.ts";

const breathe = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

test("moves a service from one broker to the other under load, step by step", { timeout: 300_000 }, async () => {
  const world = new World();
  const instances = [await world.started(), await world.started()];
  const stop = load(world, () => instances);
  const control = world.control();
  expect(await control.advance()).toMatchObject({ step: "prepared", share: 0, pending: undefined });
  expect(await control.advance()).toMatchObject({ step: "consuming" });
  for (const share of [10, 50, 100]) {
    expect(await control.advance({ share })).toMatchObject({ step: "publishing", share });
    await breathe(100);
  }
  expect(await control.advance()).toMatchObject({ step: "bridged", share: 100 });
  // Under load something is always on its way; what was there when it began is what has to be handled.
  expect(await control.advance({ patienceMs: 40_000 })).toMatchObject({ step: "proven" });
  expect(await control.advance()).toMatchObject({ step: "retired" });
  await stop();
  await eventually(() => expect(world.isClosed).toBe(true));
  world.expectClosed();
  const report = await control.report();
  expect(report.verdict).toBe("equal");
  for (const { published, handled, unexpected } of report.sources) {
    expect(published).toBeGreaterThan(0);
    // What was sold before everybody consumed through the migration is handled, and not noted as published.
    expect(handled).toBe(published + unexpected.count);
  }
});

test("keeps every key in order over moves and rollbacks, with a slow past and killed services", {
  timeout: 600_000,
}, async () => {
  const world = new World();
  // The old side is behind: what is published to the new one would overtake it.
  world.before = async (_, { attempt }) => {
    await breathe(Math.random() * 20);
    if (attempt === 1 && Math.random() < 0.05) throw new Error("now and then");
  };
  const fleet = new Fleet(world);
  await fleet.start(3);
  const stop = load(world, () => fleet.alive);
  fleet.terrorize(400);
  const control = world.control();
  await control.advance();
  await control.advance();
  await control.advance({ share: 40 });
  await breathe(150);
  await control.rollback({ share: 15 });
  await control.advance({ share: 70 });
  await control.rollback();
  expect(await control.status()).toMatchObject({ step: "consuming", share: 0 });
  await control.advance({ share: 100 });
  await breathe(300);
  await fleet.calm();
  await stop();
  await control.advance();
  await eventually(() => expect(world.isClosed).toBe(true));
  world.expectClosed();
  expect(fleet.kills).toBeGreaterThan(3);
  try {
    await control.advance({ patienceMs: 40_000 });
  } catch (error) {
    if (!isMessagingError(error)) throw error;
    throw new Error(`${error.message} ${JSON.stringify(await control.report(), null, 1)}`);
  }
  expect(await control.advance()).toMatchObject({ step: "retired" });
});

test("rolls back from every step, to the beginning", { timeout: 300_000 }, async () => {
  const world = new World();
  const instances = [await world.started(), await world.started()];
  const stop = load(world, () => instances);
  const control = world.control();
  for (const options of [{}, {}, { share: 100 }, {}]) await control.advance(options);
  await stop();
  await eventually(() => expect(world.isClosed).toBe(true));
  await control.advance();
  await control.advance();
  const again = load(world, () => instances);
  for (const step of ["proven", "bridged", "publishing", "consuming", "prepared", "new"]) {
    expect(await control.rollback()).toMatchObject({ step });
  }
  await again();
  await eventually(() => expect(world.isClosed).toBe(true));
  world.expectClosed();
  // And over all steps at once.
  for (const options of [{}, {}, { share: 30 }]) await control.advance(options);
  const third = load(world, () => instances);
  expect(await control.rollback({ to: "new" })).toMatchObject({ step: "new", share: 0 });
  await third();
  await eventually(() => expect(world.isClosed).toBe(true));
  world.expectClosed();
});

test("a stop with a shorter timeout shortens the one in progress", async () => {
  const jobs = queue<number>("jobs");
  const broker = migration({
    from: memory(),
    to: memory(),
    destinations: [jobs],
    state: memoryMigrationStore(),
    idempotency: "waived",
  });
  const begun = Promise.withResolvers<void>();
  broker.consume(jobs, () => {
    begun.resolve();
    return new Promise<void>(() => {});
  });
  await broker.start();
  await broker.send(jobs, 1);
  await begun.promise;
  const stopping = broker.stop({ timeoutMs: 3_600_000 });
  await eventually(() => expect(broker.status().consumers[0]?.state).toBe("stopping"));
  await Promise.all([broker.stop({ timeoutMs: 1 }), stopping]);
  expect(broker.status().state).toBe("stopped");
});
