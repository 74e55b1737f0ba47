import type { Socket } from "node:net";
import { connect } from "amqplib";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import type { RabbitMQOptions } from "../../../adapters/rabbitmq/index.ts";
import type { QueueAddress, WorkAddress } from "../../../core/address.ts";
import { faultyLink } from "../../brokers/faulty-link.ts";
import type { VirtualHost } from "../../brokers/rabbitmq.ts";
import { describeRabbitMQ } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";
import { subscriptionOf, topology, workQueue } from "../seam-values.ts";
import { openAdapter } from "./open-adapter.ts";

const WAIT_MS = 240_000;

describeRabbitMQ("a quarantine log on RabbitMQ", (broker) => {
  let place: VirtualHost;
  let of: QueueAddress;
  const open: (() => Promise<unknown>)[] = [];
  let tests = 0;

  beforeAll(async () => {
    place = await broker.newVirtualHost();
  });
  afterAll(() => place?.remove());
  beforeEach(() => {
    of = { kind: "queue", name: `${place.namePrefix}orders-${++tests}` };
  });
  afterEach(async () => {
    for (const close of open.splice(0).toReversed()) await close();
  });

  async function session(options: RabbitMQOptions = {}) {
    const opened = await openAdapter({ url: place.url, ...options });
    open.push(() => opened.adapter.close());
    return { ...opened, log: opened.adapter.quarantine(of) };
  }

  /** A session that declared the queue. */
  async function owner(options: RabbitMQOptions = {}) {
    const opened = await session(options);
    expect(await opened.adapter.declare(topology({ queues: [workQueue(of.name)] }))).toEqual([]);
    return opened;
  }

  /** A reader of another make, which takes what is there and gives nothing back until its connection ends. */
  async function holdAll(url: string, count: number) {
    const connection = await connect(url);
    // It may be cut.
    connection.on("error", () => {});
    // A close in good order waits for an answer, which a silent link never brings.
    const { stream } = connection.connection as unknown as { readonly stream: Socket };
    open.push(async () => void stream.destroy());
    const channel = await connection.createChannel();
    channel.on("error", () => {});
    await channel.prefetch(60_000);
    let held = 0;
    await channel.consume(`${of.name}.quarantine`, () => {
      held++;
    });
    await until("all records", WAIT_MS, () => expect(held).toBe(count));
    return { connection, held: () => held };
  }

  async function removeQueue(): Promise<void> {
    const connection = await connect(place.url);
    await (await connection.createChannel()).deleteQueue(`${of.name}.quarantine`);
    await connection.close();
  }

  const numbered = (count: number, name = "record") => Array.from({ length: count }, (_, index) => `${name} ${index}`);

  test("what one process appends every process reads, again and again", async () => {
    const [first, second] = [await owner(), await session()];
    expect(await second.log.read()).toEqual([]);
    await first.log.append("one");
    await second.log.append("two: ä € 𝄞");
    for (const { log } of [first, second, first]) {
      expect((await log.read()).toSorted()).toEqual(["one", "two: ä € 𝄞"]);
    }
  });

  test("each source has its own, subscriptions too", async () => {
    const { adapter, log } = await owner();
    const subscription = subscriptionOf(`${of.name}-topic`, "billing");
    expect(await adapter.declare(topology({ subscriptions: [subscription] }))).toEqual([]);
    const other: WorkAddress = subscription.address;
    await log.append("of the queue");
    await adapter.quarantine(other).append("of the subscription");
    expect(await log.read()).toEqual(["of the queue"]);
    expect(await adapter.quarantine(other).read()).toEqual(["of the subscription"]);
  });

  test("readers at the same time see all that was confirmed before each began", async () => {
    const sessions = await Promise.all([owner(), owner(), owner()]);
    const confirmed: string[] = [];
    const writeAndRead = async ({ log }: (typeof sessions)[number], writer: number): Promise<void> => {
      for (let round = 0; round < 10; round++) {
        const record = `${writer}/${round}`;
        await log.append(record);
        confirmed.push(record);
        const before = [...confirmed];
        expect(await log.read()).toEqual(expect.arrayContaining(before));
      }
    };
    await Promise.all(sessions.flatMap((one, index) => [writeAndRead(one, index), writeAndRead(one, index + 10)]));
    const all = await Promise.all(sessions.map(({ log }) => log.read()));
    for (const records of all) expect(records.toSorted()).toEqual(confirmed.toSorted());
  });

  test("a log of thousands of records is read to its end", async () => {
    const { log } = await owner();
    const records = numbered(5_000);
    await Promise.all(records.map((record) => log.append(record)));
    await log.append("the last one");
    const read = await log.read();
    expect(new Set(read)).toEqual(new Set([...records, "the last one"]));
    expect(read).toHaveLength(5_001);
  });

  test("what readers put in themselves does not stay", async () => {
    const { adapter, log } = await owner({ requestTimeoutMs: 2_000 });
    await log.append("one");
    for (let reads = 0; reads < 5; reads++) expect(await log.read()).toEqual(["one"]);
    const depth = async () => (await adapter.depth({ kind: "quarantine", of })).ready;
    await until("the records alone", WAIT_MS, async () => expect(await depth()).toBe(1));
    const holder = await holdAll(place.url, 1);
    await expect(log.read()).rejects.toMatchObject({ code: "timeout" });
    await holder.connection.close();
    // The marker of a reader that gave up expires, and goes with the next reading at the latest.
    await until("the records alone", WAIT_MS, async () => {
      expect(await log.read()).toEqual(["one"]);
      expect(await depth()).toBe(1);
    });
  });

  test("reads leave no channels and no listeners behind", async () => {
    const { adapter, log } = await owner();
    await log.append("one");
    const { consuming } = adapter.connections;
    const listeners = () =>
      (consuming?.eventNames() ?? []).map((name) => [name, consuming?.listenerCount(name)] as const);
    await log.read();
    const before = listeners();
    for (let reads = 0; reads < 20; reads++) await log.read();
    expect(listeners()).toEqual(before);
    // amqplib's own list, with a hole for each that ended.
    const connection = consuming?.connection as { readonly channels?: readonly unknown[] } | undefined;
    await until("the end of the channels", WAIT_MS, () => {
      expect(connection?.channels?.filter(Boolean).length).toBeLessThan(5);
    });
  });

  test("a reader that stands still while it holds all keeps others waiting, and takes nothing with it", async () => {
    const link = await faultyLink(place.url);
    open.push(() => link.close());
    const { log } = await owner({ requestTimeoutMs: WAIT_MS });
    const records = numbered(20);
    for (const record of records) await log.append(record);
    await holdAll(`${link.through(place.url)}?heartbeat=1`, records.length);
    link.silence();
    // The server cuts it, for it misses its heartbeats.
    const both = await Promise.all([log.read(), (await session({ requestTimeoutMs: WAIT_MS })).log.read()]);
    for (const read of both) expect(read.toSorted()).toEqual(records.toSorted());
  });

  test("so does one whose connection is cut", async () => {
    const link = await faultyLink(place.url);
    open.push(() => link.close());
    const { log } = await owner();
    const records = numbered(20);
    for (const record of records) await log.append(record);
    const holder = await holdAll(link.through(place.url), records.length);
    const closed = new Promise((resolve) => holder.connection.once("close", resolve));
    const read = log.read();
    link.cut();
    await closed;
    expect((await read).toSorted()).toEqual(records.toSorted());
  });

  test("a read ends with its connection, and the log works on over the next one", async () => {
    const link = await faultyLink(place.url);
    open.push(() => link.close());
    const there = await owner();
    await there.log.append("one");
    const { log, signals } = await session({ url: link.through(place.url) });
    const holder = await holdAll(place.url, 1);
    const waiting = [log.read(), log.read()];
    const ends = Promise.allSettled(waiting);
    // The marker of the first comes to the holder, and its reader waits.
    await until("the marker", WAIT_MS, () => expect(holder.held()).toBe(2));
    link.cut();
    for (const end of await ends) expect(end).toMatchObject({ status: "rejected", reason: { code: "unreachable" } });
    await holder.connection.close();
    await until("the way back", WAIT_MS, () => expect(signals).toEqual(["down", "up"]));
    await log.append("two");
    expect((await log.read()).toSorted()).toEqual(["one", "two"]);
  });

  test("closing ends what waits, and after the next opening the log works on", async () => {
    const { adapter, log } = await owner();
    await log.append("one");
    const holder = await holdAll(place.url, 1);
    const ends = Promise.allSettled([log.read(), log.read()]);
    await until("the marker", WAIT_MS, () => expect(holder.held()).toBe(2));
    await adapter.close();
    for (const end of await ends) expect(end).toMatchObject({ status: "rejected", reason: { code: "unreachable" } });
    await expect(log.append("two")).rejects.toMatchObject({ code: "closed" });
    await expect(log.read()).rejects.toMatchObject({ code: "closed" });
    await holder.connection.close();
    await adapter.open({ up() {}, down() {}, blocked() {}, unblocked() {}, notice() {} });
    expect(await log.read()).toEqual(["one"]);
  });

  test("a queue that vanished is told, and made again for what comes next", async () => {
    const { log, notices } = await owner();
    await log.append("one");
    await removeQueue();
    await expect(log.append("two")).rejects.toMatchObject({ code: "not-found" });
    await log.append("three");
    expect(await log.read()).toEqual(["three"]);
    await removeQueue();
    await expect(log.read()).rejects.toMatchObject({ code: "not-found" });
    expect(await log.read()).toEqual([]);
    const told = notices.filter(({ message }) => message.includes(`"${of.name}.quarantine" was deleted`));
    expect(told).toHaveLength(2);
  });

  test("one that vanishes under a reader ends its read", async () => {
    const { log } = await owner();
    await log.append("one");
    const holder = await holdAll(place.url, 1);
    const end = Promise.allSettled([log.read()]);
    await until("the marker", WAIT_MS, () => expect(holder.held()).toBe(2));
    await removeQueue();
    expect(await end).toMatchObject([{ status: "rejected", reason: { code: "not-found" } }]);
    await until("the log", WAIT_MS, async () => expect(await log.read()).toEqual([]));
  });

  test("what is no record is passed over, and what would fill the memory ends the read", async () => {
    const { log } = await owner();
    await log.append("one");
    const connection = await connect(place.url);
    open.push(() => connection.close());
    const channel = await connection.createConfirmChannel();
    const put = async (bytes: number, contentType?: string) => {
      channel.sendToQueue(`${of.name}.quarantine`, Buffer.alloc(bytes, "a"), contentType ? { contentType } : {});
      await channel.waitForConfirms();
    };
    await put(100);
    await put(100, "application/json");
    await put(100_000, "text/plain");
    await log.append("two");
    expect((await log.read()).toSorted()).toEqual(["one", "two"]);
    for (let count = 0; count < 9; count++) await put(8_000_000);
    const message = expect.stringContaining(`purge the queue "${of.name}.quarantine"`);
    await expect(log.read()).rejects.toMatchObject({ code: "overloaded", message });
    await until("the purge", WAIT_MS, async () => {
      // What the reader held is on the queue again once its channel is closed.
      await channel.purgeQueue(`${of.name}.quarantine`);
      expect(await log.read()).toEqual([]);
    });
    await log.append("three");
    expect(await log.read()).toEqual(["three"]);
  });

  test("where nothing was declared, nothing is made", async () => {
    const { log } = await session();
    await expect(log.append("one")).rejects.toMatchObject({ code: "not-found" });
    await expect(log.read()).rejects.toMatchObject({ code: "not-found" });
    await expect(log.append("one")).rejects.toMatchObject({ code: "not-found" });
  });

  test.each([false, true])("it is verified and removed with its queue (ordered: %s)", async (ordered) => {
    const wanted = topology({ queues: [workQueue(of.name, { ordered })] });
    const first = await session();
    expect(await first.adapter.declare(wanted)).toEqual([]);
    const second = await session();
    expect(await second.adapter.declare({ ...wanted, mode: "verify" })).toEqual([]);
    await second.log.append("one");
    await first.adapter.close();
    await removeQueue();
    const missing = await second.adapter.declare({ ...wanted, mode: "verify" });
    expect(missing).toMatchObject([{ code: "not-found", message: expect.stringContaining(`"${of.name}.quarantine"`) }]);
    const third = await session();
    expect(await third.adapter.declare(wanted)).toEqual([]);
    await third.adapter.close();
    await second.adapter.remove(wanted);
    await expect(second.adapter.depth({ kind: "quarantine", of })).rejects.toMatchObject({ code: "not-found" });
  });
});
