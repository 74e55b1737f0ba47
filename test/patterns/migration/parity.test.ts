import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { createBroker, queue } from "anybroker";
import {
  type MigrationControl,
  type MigrationStore,
  memoryMigrationStore,
  migration,
  type SourceParity,
} from "anybroker/migration";
import { createOutbox, createRelay } from "anybroker/outbox";
import { sqliteOutbox } from "anybroker/outbox/sqlite";
import { expect, onTestFinished, test } from "vitest";
import { internalsOf } from "../../../core/broker-internals.ts";
import { eventually } from "../../eventually.ts";
import { memoryPair, plain, QUICK, World } from "./world.ts";

const dead = (name: string) => ({ kind: "dead-letters", of: { kind: "queue", name } }) as const;

test("what is lost is named, and nothing is proven before it is found", async () => {
  const world = new World();
  const { broker } = await world.started();
  const control = world.control();
  await control.advance();
  await control.advance();
  // Somebody takes one from the old broker who should not.
  const { emails, destinations } = world.catalog;
  const thief = createBroker(world.pair.from(), { destinations: [emails] });
  const stolen: string[] = [];
  for (const consumer of broker.status().consumers) expect(consumer.state).toBe("running");
  thief.consume(emails, (_, { id }) => void stolen.push(id));
  await thief.start();
  onTestFinished(() => thief.stop());
  for (let n = 0; stolen.length === 0; n++) await broker.send(emails, { customer: "ada", n }, { id: `mail-${n}` });
  await thief.stop();
  await control.advance({ share: 100 });
  await control.advance();
  const late = await control.advance({ patienceMs: 300 }).catch((error: unknown) => error);
  expect(late).toMatchObject({ code: "conflict", message: expect.stringContaining(stolen[0] as string) });
  const report = await control.report();
  expect(report.verdict).toBe("different");
  const source = report.sources.find(({ source }) => source === emails.name);
  expect(source?.missing).toEqual({ count: stolen.length, ids: [...stolen].sort() });
  expect(source?.published).toBe((source?.handled ?? 0) + stolen.length);
  // Given back, it is handled, and all is well.
  const honest = await plain(world.pair.from(), destinations);
  for (const id of stolen) await honest.send(emails, { customer: "ada", n: 0 }, { id });
  expect(await control.advance({ patienceMs: 40_000 })).toMatchObject({ step: "proven" });
});

test("what stands in the dead letters is not missing, and moves with the rest", async () => {
  const world = new World();
  const { emails, sources } = world.catalog;
  world.before = async (source, { id }) => {
    if (source === sources.emails && id === "poison") throw new Error("never");
  };
  const { broker } = await world.started({ broker: { consume: { retry: { attempts: 1 } } } });
  const control = world.control();
  await control.advance();
  await control.advance();
  await broker.send(emails, { customer: "ada", n: 0 }, { id: "poison" });
  await broker.send(emails, { customer: "ada", n: 1 }, { id: "fine" });
  await control.advance({ share: 100 });
  const from = await plain(world.pair.from(), []);
  const to = await plain(world.pair.to(), []);
  const existing = async (at: typeof from): Promise<number> =>
    (await internalsOf(at, "test").adapter.depth(dead(emails.name))).ready;
  await eventually(async () => expect(await existing(from)).toBe(1));
  await control.advance();
  expect([await existing(from), await existing(to)]).toEqual([0, 1]);
  const report = await control.report();
  expect(report.verdict).toBe("equal");
  const source = report.sources.find(({ source }) => source === emails.name);
  expect(source).toMatchObject({ missing: { count: 0 }, dead: { count: 1, ids: ["poison"] } });
  expect(await control.advance()).toMatchObject({ step: "proven" });
  // And back, when it is rolled back.
  await control.rollback({ to: "prepared" });
  expect([await existing(from), await existing(to)]).toEqual([1, 0]);
});

test("what nobody handles is moved, and an operator that stops in the middle is followed by another", async () => {
  const world = new World();
  const { emails, sources } = world.catalog;
  const { broker } = await world.started();
  const control = world.control();
  await control.advance();
  await control.advance();
  // Its consumers are away: everything stands.
  for (const consumer of broker.status().consumers) expect(consumer.state).toBe("running");
  const idle = migration({
    from: world.pair.from(),
    to: world.pair.to(),
    destinations: world.catalog.destinations,
    state: world.store,
    idempotency: "waived",
    ...QUICK,
  });
  await broker.stop();
  await idle.start();
  for (let n = 0; n < 300; n++) await idle.send(emails, { customer: "ada", n }, { id: `mail-${n}` });
  world.confirmed.set(sources.emails, new Set(Array.from({ length: 300 }, (_, n) => `mail-${n}`)));
  await control.advance({ share: 100 });
  const stop = new AbortController();
  const broken = control.advance({
    rate: 200,
    signal: stop.signal,
    onProgress: (told) => {
      if (told.waitingFor === "bridge" && told.bridge.moved > 20) stop.abort(new Error("enough"));
    },
  });
  await expect(broken).rejects.toThrow("enough");
  expect(await control.status()).toMatchObject({ step: "publishing", share: 100, pending: undefined });
  expect(await control.advance()).toMatchObject({ step: "bridged" });
  const to = await plain(world.pair.to(), [emails]);
  expect(await to.depth(emails)).toMatchObject({ ready: 300 });
  await idle.stop();
  await world.started();
  await eventually(() => expect(world.isClosed).toBe(true));
  await control.advance();
  expect(await control.advance()).toMatchObject({ step: "retired" });
});

/** A state store that takes no marks while it is told so. */
function markless(store: MigrationStore, away: () => boolean): MigrationStore {
  return new Proxy(store, {
    get(target, name) {
      const value = target[name as keyof typeof target] as (...all: unknown[]) => unknown;
      if (name === "mark" && away()) return () => Promise.reject(new Error("away"));
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

/** What the report says of the emails. */
async function emailsIn({ catalog }: World, control: MigrationControl): Promise<SourceParity | undefined> {
  return (await control.report()).sources.find(({ source }) => source === catalog.sources.emails);
}

/** A service that consumes from both brokers, and whose store takes no marks while it is `away`. */
async function consuming() {
  const world = new World();
  const store = { away: false };
  const { broker, events } = await world.started({ state: markless(world.store, () => store.away) });
  const control = world.control();
  await control.advance();
  await control.advance();
  return { world, store, broker, events, control };
}

test("what was handled while the store took no marks comes again, and is handled once", async () => {
  const { world, store, broker, events, control } = await consuming();
  const { emails, sources } = world.catalog;
  world.before = async () => {
    store.away = true;
  };
  await broker.send(emails, { customer: "ada", n: 0 }, { id: "mail" });
  await eventually(() => expect(events.some(({ type }) => type === "unrecorded")).toBe(true));
  world.before = async () => {};
  store.away = false;
  await eventually(async () => expect((await control.report()).verdict).toBe("equal"));
  expect(await emailsIn(world, control)).toMatchObject({ published: 1, handled: 1 });
  expect(world.effects.get(sources.emails)).toHaveLength(1);
  expect(world.runs).toBe(1);
});

test.for(["while it runs", "when it stops"] as const)(
  "what was published while the store took no marks is noted later, %s",
  async (when) => {
    const { world, store, broker, events, control } = await consuming();
    const open = Promise.withResolvers<void>();
    world.before = () => open.promise;
    store.away = true;
    await broker.send(world.catalog.emails, { customer: "ada", n: 0 }, { id: "mail" });
    expect(events.filter(({ type }) => type === "unrecorded")).toMatchObject([{ marks: 1 }]);
    const published = async () => (await emailsIn(world, control))?.published ?? 0;
    expect(await published()).toBe(0);
    store.away = false;
    open.resolve();
    if (when === "when it stops") await broker.stop();
    await eventually(async () => expect(await published()).toBe(1));
    await eventually(async () => expect((await control.report()).verdict).toBe("equal"));
  },
);

test("what is published once the advance to consuming has resolved is on record, whoever publishes it", async () => {
  const world = new World();
  const seldom = { leaseMs: 20_000, pollMs: 2_000 } as const;
  const instances = [await world.started(seldom), await world.started(seldom)];
  const control = world.control();
  await control.advance();
  await control.advance();
  const { emails, sources } = world.catalog;
  for (const [n, { broker }] of instances.entries()) await broker.send(emails, { customer: "ada", n });
  await eventually(() => expect(world.effects.get(sources.emails)).toHaveLength(2));
  await eventually(async () => expect(await emailsIn(world, control)).toMatchObject({ handled: 2 }));
  expect(await emailsIn(world, control)).toMatchObject({ published: 2, unexpected: { count: 0 } });
});

test("what was handled by services that were not deployed yet is not missing", async () => {
  const world = new World();
  const { emails, destinations } = world.catalog;
  const before = createBroker(world.pair.from(), { destinations });
  let handled = 0;
  before.consume(emails, () => void handled++);
  await before.start();
  const publisher = migration({
    from: world.pair.from(),
    to: world.pair.to(),
    destinations,
    state: world.store,
    idempotency: "waived",
    ...QUICK,
  });
  onTestFinished(() => publisher.stop());
  await publisher.start();
  for (let n = 0; n < 10; n++) await publisher.send(emails, { customer: "ada", n });
  await eventually(() => expect(handled).toBe(10));
  await before.stop();
  await publisher.stop();
  await world.started();
  const control = world.control();
  for (const options of [{}, {}, { share: 100 }, {}]) await control.advance(options);
  expect(await control.advance({ patienceMs: 40_000 })).toMatchObject({ step: "proven" });
  expect((await control.report()).verdict).toBe("equal");
});

test("without a journal the proof has to be waived by name", async () => {
  const world = new World();
  await world.started({ journal: "waived" });
  const control = world.control();
  for (const options of [{}, {}, { share: 100 }, {}]) await control.advance(options);
  expect((await control.report()).verdict).toBe("waived");
  await expect(control.advance()).rejects.toMatchObject({ code: "conflict", message: expect.stringMatching(/parity/) });
  expect(await control.advance({ accept: ["parity"] })).toMatchObject({ step: "proven" });
});

test("the relay of an outbox publishes by the migration's rules", async () => {
  const pair = memoryPair();
  const orders = queue<{ n: number }>("orders", { key: ({ n }) => `k${n % 5}`, ordered: true });
  const broker = migration({
    from: pair.from(),
    to: pair.to(),
    destinations: [orders],
    state: memoryMigrationStore(),
    idempotency: "waived",
    ...QUICK,
  });
  onTestFinished(() => broker.stop());
  const seen: number[] = [];
  broker.consume(orders, ({ n }) => void seen.push(n));
  await broker.start();
  const folder = await mkdtemp(join(tmpdir(), "migration-outbox-"));
  const open = (): DatabaseSync => {
    const database = new DatabaseSync(join(folder, "outbox.db"));
    database.exec("PRAGMA journal_mode = WAL");
    return database;
  };
  const store = sqliteOutbox(open);
  await store.migrate();
  const outbox = createOutbox({ store, broker });
  const relay = createRelay({ store, broker });
  await relay.start();
  const database = open();
  onTestFinished(async () => {
    await relay.stop();
    database.close();
    await rm(folder, { recursive: true, force: true });
  });
  const write = async (n: number): Promise<void> => {
    database.exec("BEGIN IMMEDIATE");
    await outbox.send(database, orders, { n });
    database.exec("COMMIT");
  };
  for (let n = 0; n < 20; n++) await write(n);
  await broker.control.advance();
  await broker.control.advance();
  await broker.control.advance({ share: 100 });
  for (let n = 20; n < 40; n++) await write(n);
  await eventually(() => expect(seen).toHaveLength(40));
  for (let key = 0; key < 5; key++) {
    const ofKey = seen.filter((n) => n % 5 === key);
    expect(ofKey).toEqual([...ofKey].sort((one, other) => one - other));
  }
});
