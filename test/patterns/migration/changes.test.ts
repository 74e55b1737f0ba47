import { createBroker, MessagingError, queue, topic } from "anybroker";
import { kafka } from "anybroker/kafka";
import { memory, memorySpace } from "anybroker/memory";
import {
  compareBrokers,
  type MigrationStore,
  memoryMigrationStore,
  migration,
  migrationControl,
} from "anybroker/migration";
import { rabbitmq } from "anybroker/rabbitmq";
import { sqs } from "anybroker/sqs";
import { expect, onTestFinished, test } from "vitest";
import { eventually } from "../../eventually.ts";
import { CUSTOMERS, load } from "./load.ts";
import { memoryPair, mortal, QUICK, World } from "./world.ts";

test("lists what the new broker cannot do, and wants it accepted by name", async () => {
  const rabbit = rabbitmq({ url: "amqp://localhost" });
  const log = kafka({ brokers: ["localhost:9092"] });
  const cloud = sqs({ region: "eu-central-1" });
  const urgent = queue("urgent", { priorities: 5 });
  const toKafka = compareBrokers(rabbit, log, [urgent]);
  expect(toKafka.lost).toContain("priority");
  expect(toKafka.differences.find(({ name }) => name === "priority")).toMatchObject({
    from: "native",
    to: "unsupported",
    kind: "lost",
    askedBy: [`queue "urgent"`],
  });
  expect(compareBrokers(log, cloud).lost).toEqual(expect.arrayContaining(["rewind"]));
  const state = memoryMigrationStore();
  const control = migrationControl({ from: rabbit, to: log, destinations: [urgent], state });
  await expect(control.advance()).rejects.toMatchObject({
    code: "unsupported",
    message: expect.stringMatching(/priority.*"urgent"/),
  });
  expect((await control.status()).step).toBe("new");
  const { lost } = control.compare();
  expect(await control.advance({ accept: lost })).toMatchObject({ step: "prepared", accepted: lost });
  await expect(control.advance({ accept: ["magic" as never] })).rejects.toMatchObject({ code: "invalid" });
});

test("finds names that the new broker cannot carry before anything is begun", async () => {
  const long = queue("a.name.that.is.so.long.that.the.cloud.has.no.room.for.it.and.for.what.comes.behind.it");
  const state = memoryMigrationStore();
  const to = sqs({ region: "eu-central-1" });
  const control = migrationControl({ from: memory(), to, destinations: [long], state });
  const { lost } = control.compare();
  const refused = await control.advance({ accept: lost }).catch((error: unknown) => error);
  expect(refused).toMatchObject({ code: "invalid", message: expect.stringMatching(/75 characters/) });
  expect((await control.status()).step).toBe("new");
});

test("what was accepted is not asked of the new broker", async () => {
  const space = memorySpace();
  const lacking = (): ReturnType<typeof memory> => {
    const adapter = memory({ space });
    const { capabilities } = adapter;
    const priority = { support: "unsupported", note: "none", levels: 1 } as const;
    return new Proxy(adapter, {
      get: (target, name) => {
        if (name === "capabilities") return { ...capabilities, priority };
        const value = target[name as keyof typeof target];
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
  };
  const urgent = queue<{ n: number }>("urgent", { priorities: 5 });
  const state = memoryMigrationStore();
  const broker = migration({
    from: memory(),
    to: lacking(),
    destinations: [urgent],
    state,
    idempotency: "waived",
    ...QUICK,
  });
  onTestFinished(() => broker.stop());
  const seen: number[] = [];
  broker.consume(urgent, ({ n }) => void seen.push(n));
  await broker.start();
  await broker.control.advance({ accept: ["priority"] });
  await broker.control.advance();
  await broker.control.advance({ share: 100 });
  await broker.send(urgent, { n: 1 }, { priority: 4 });
  await eventually(() => expect(seen).toEqual([1]));
});

test("refuses what is not of the migration, and options that make no sense", async () => {
  const world = new World();
  const { broker } = await world.started();
  await expect(broker.send(queue("other"), 1)).rejects.toMatchObject({
    code: "invalid",
    message: expect.stringMatching(/destinations/),
  });
  expect(() => broker.consume(queue("other"), () => {})).toThrow(/destinations of the migration/);
  expect(() => broker.subscribe(world.catalog.placed, "newsletter", () => {})).toThrow(/newsletter/);
  expect(() => broker.subscribe(topic("placed2"), "billing", () => {})).toThrow(/destinations/);
  const base = { from: memory(), to: memory(), destinations: [queue("q")], state: memoryMigrationStore() };
  expect(() => migration(base as never)).toThrow(/idempotency/);
  expect(() => migration({ ...base, idempotency: "waived", destinations: [] })).toThrow(/destinations/);
  expect(() => migration({ ...base, to: base.from, idempotency: "waived" })).toThrow(/two different adapters/);
  expect(() => migration({ ...base, idempotency: "waived", pollMs: 30_000 })).toThrow(/pollMs/);
  expect(() => migration({ ...base, from: createBroker(memory()) as never, idempotency: "waived" })).toThrow(/adapter/);
  const control = world.control();
  await expect(control.advance({ share: 10 })).rejects.toMatchObject({ code: "invalid" });
  await expect(control.advance({ share: 101 })).rejects.toMatchObject({ code: "invalid" });
  await expect(control.rollback()).rejects.toMatchObject({ code: "invalid" });
  await expect(broker.rewind(world.catalog.placed, "billing", "earliest")).rejects.toMatchObject({
    code: "unsupported",
  });
});

test("an instance with another list of destinations is refused, and says so", async () => {
  const world = new World();
  await world.control().advance();
  const stranger = migration({
    from: world.pair.from(),
    to: world.pair.to(),
    destinations: [queue("orders")],
    state: world.store,
    idempotency: "waived",
    ...QUICK,
  });
  await expect(stranger.start()).rejects.toMatchObject({
    code: "conflict",
    message: expect.stringMatching(/this process lacks .*queue "emails"/),
  });
});

test("of two operators at once one changes, and the other is told", async () => {
  const world = new World();
  await world.started();
  const [one, other] = [world.control(), world.control()];
  await one.advance();
  await one.advance();
  const ends = await Promise.allSettled([one.advance({ share: 10 }), other.advance({ share: 30 })]);
  const lost = ends.filter((end) => end.status === "rejected");
  expect(lost).toHaveLength(1);
  expect(lost[0]).toMatchObject({ reason: { code: "conflict" } });
  const { share } = await one.status();
  expect([10, 30]).toContain(share);
});

test("an instance that cannot read the state refuses to publish, and goes on when it can", async () => {
  const world = new World();
  let away = false;
  const { broker, events } = await world.started({ state: mortal(world.store, () => away) });
  const { emails, orders, sources } = world.catalog;
  const body = { customer: "ada", n: 0 };
  away = true;
  await eventually(() => expect(events.some(({ type }) => type === "stale")).toBe(true));
  for (const send of [() => broker.send(emails, body), () => broker.send(orders, body)]) {
    await expect(send()).rejects.toMatchObject({ code: "closed", message: expect.stringMatching(/could not be read/) });
  }
  away = false;
  await eventually(() => expect(events.at(-1)?.type).toBe("fresh"));
  await broker.send(emails, body, { id: "mail" });
  await eventually(() => expect(world.effects.get(sources.emails)).toHaveLength(1));
});

test("an instance that finds an older state refuses to publish, and says why", async () => {
  const world = new World();
  const { broker, events } = await world.started();
  await world.control().advance();
  const name = "migration";
  await eventually(async () => expect((await world.store.read(name)).revision).toBeGreaterThan(0));
  await world.store.forget(name);
  await eventually(() =>
    expect(events).toContainEqual({
      type: "stale",
      error: expect.objectContaining({ code: "conflict", message: expect.stringMatching(/was deleted.*restore it/) }),
    }),
  );
  await expect(broker.send(world.catalog.emails, { customer: "ada", n: 0 })).rejects.toMatchObject({ code: "closed" });
});

test("a change waits for the lease of an instance that died, and for no longer", async () => {
  const world = new World();
  await world.started();
  const victim = await world.started();
  const control = world.control();
  await control.advance();
  await control.advance();
  await victim.kill();
  const waited: (readonly string[])[] = [];
  await control.advance({
    share: 50,
    onProgress: (told) => told.waitingFor === "instances" && waited.push(told.instances),
  });
  expect(waited.at(-1)).toHaveLength(1);
  expect((await control.status()).instances).toHaveLength(1);
});

test("keys that move wait until every instance has taken it over; others go on", async () => {
  const world = new World();
  const { broker } = await world.started();
  const control = world.control();
  await control.advance();
  await control.advance();
  // An instance that is known to live and takes nothing over.
  await world.store.beat("migration", { instance: "stubborn", acting: 0, leaseMs: 60_000, report: "{}" });
  await expect(control.advance({ share: 50, patienceMs: 200 })).rejects.toMatchObject({
    code: "timeout",
    message: expect.stringMatching(/stubborn/),
  });
  expect(await control.status()).toMatchObject({
    share: 0,
    pending: { share: 50, waitingFor: expect.arrayContaining(["stubborn"]) },
  });
  await eventually(async () => expect((await control.status()).pending?.waitingFor).toEqual(["stubborn"]));
  const ends = await Promise.allSettled(
    CUSTOMERS.map((customer) => broker.send(world.catalog.orders, { customer, n: 0 }, { timeoutMs: 2_000 })),
  );
  const held = ends.filter((end) => end.status === "rejected");
  expect(held.length).toBeGreaterThan(0);
  expect(held.length).toBeLessThan(CUSTOMERS.length);
  for (const each of held)
    expect(each).toMatchObject({ reason: { code: "timeout", message: expect.stringMatching(/moving/) } });
  // Without order nothing waits.
  await broker.send(world.catalog.emails, { customer: "ada", n: 0 }, { timeoutMs: 20_000 });
  expect(await control.rollback()).toMatchObject({ share: 0, pending: undefined, step: "consuming" });
  await Promise.all(
    CUSTOMERS.map((customer) => broker.send(world.catalog.orders, { customer, n: 1 }, { timeoutMs: 20_000 })),
  );
});

test("an instance that cannot connect to the new broker says so, and follows when it can", async () => {
  const world = new World();
  const to = world.pair.to();
  let down = true;
  const open = to.open.bind(to);
  to.open = (signals) => (down ? Promise.reject(new MessagingError("unreachable", "no route")) : open(signals));
  const { broker, events } = await world.started({ to });
  const control = world.control();
  await control.advance();
  await expect(control.advance({ patienceMs: 300 })).rejects.toMatchObject({ code: "timeout" });
  expect(events.some(({ type }) => type === "stuck")).toBe(true);
  const [instance] = (await control.status()).instances;
  expect(instance).toMatchObject({ upToDate: false, problem: expect.stringMatching(/no route/) });
  // What is in force goes on.
  await broker.send(world.catalog.emails, { customer: "ada", n: 0 }, { id: "mail" });
  await eventually(() => expect(world.effects.get(world.catalog.sources.emails)).toHaveLength(1));
  down = false;
  expect(await control.advance()).toMatchObject({ step: "consuming", pending: undefined });
});

/** Lets the operator die at the call to the store that is the n-th that writes. */
function dying(store: MigrationStore, at: number): { readonly store: MigrationStore; readonly died: () => boolean } {
  let writes = 0;
  let dead = false;
  const mortalStore = mortal(store, () => dead);
  return {
    died: () => dead,
    store: new Proxy(mortalStore, {
      get(target, name) {
        const value = target[name as keyof MigrationStore] as (...all: unknown[]) => Promise<unknown>;
        if (name !== "change" && name !== "clearBarrierAcks") return value;
        return async (...parameters: unknown[]) => {
          // Half of them die before what they write is written, and half behind it.
          if (writes++ === at >> 1) {
            if (at % 2 === 0) dead = true;
            const end = await value.apply(target, parameters);
            dead = true;
            throw Object.assign(new Error("died"), { end });
          }
          return value.apply(target, parameters);
        };
      },
    }),
  };
}

test("an operator that dies at any write of any step is followed by another one", { timeout: 600_000 }, async () => {
  const forward = [{}, {}, { share: 40 }, { share: 100 }, {}, {}, {}];
  for (let at = 0; at < 4; at++) {
    const world = new World();
    const instances = [await world.started()];
    const stop = load(world, () => instances, 20);
    const control = world.control();
    const patient = { patienceMs: 20_000, emptyForMs: 100 };
    const operator = (): { readonly control: ReturnType<World["control"]>; readonly died: () => boolean } => {
      const { store, died } = dying(world.store, at);
      const { destinations } = world.catalog;
      const doomed = migrationControl({ from: world.pair.from(), to: world.pair.to(), destinations, state: store });
      onTestFinished(() => doomed.close());
      return { control: doomed, died };
    };
    const order = (step: string): number =>
      ["new", "prepared", "consuming", "publishing", "bridged", "proven", "retired"].indexOf(step);
    let deaths = 0;
    for (const options of forward) {
      const before = await control.status();
      const doomed = operator();
      await doomed.control.advance({ ...patient, ...options }).catch((error: unknown) => {
        if (!doomed.died()) throw error;
        deaths++;
      });
      const left = await control.status();
      const target = left.pending ?? left;
      const moved = target.step !== before.step || target.share !== before.share;
      if (!moved) await control.advance({ ...patient, ...options });
      else if (left.pending !== undefined) await control.advance(patient);
      const after = await control.status();
      expect(order(after.step), JSON.stringify(after.history)).toBeGreaterThanOrEqual(order(before.step));
      expect(after.pending).toBeUndefined();
    }
    expect((await control.status()).step).toBe("retired");
    for (let back = 0; back < 7; back++) {
      const before = await control.status();
      if (before.step === "new") break;
      const doomed = operator();
      await doomed.control.rollback(patient).catch((error: unknown) => {
        if (!doomed.died()) throw error;
        deaths++;
      });
      const left = await control.status();
      if (left.pending !== undefined) await control.advance(patient);
      else if (left.step === before.step) await control.rollback(patient);
      expect((await control.status()).pending).toBeUndefined();
    }
    expect((await control.status()).step).toBe("new");
    expect(deaths).toBeGreaterThan(at < 2 ? 10 : 0);
    await stop();
    await eventually(() => expect(world.isClosed).toBe(true));
    world.expectClosed();
  }
});

test("goes on after all instances were restarted at once", async () => {
  const world = new World(memoryPair());
  const first = await world.started();
  const control = world.control();
  for (const options of [{}, {}, { share: 50 }]) await control.advance(options);
  await first.kill();
  const second = await world.started();
  await world.sell(() => second.broker, "ada");
  await eventually(() => expect(world.isClosed).toBe(true));
  expect(await control.advance({ share: 100 })).toMatchObject({ share: 100 });
  world.expectClosed();
});
