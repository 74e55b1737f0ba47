import { randomBytes } from "node:crypto";
import { type BrokerEvent, createBroker, type Queue, queue, topic } from "anybroker";
import { HEADER } from "anybroker/adapter";
import { type ArchivedEntry, deadLetters } from "anybroker/dead-letters";
import { CompressionTypes, Kafka, logLevel } from "kafkajs";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { type KafkaOptions, kafka } from "../../../adapters/kafka/index.ts";
import type { Namespace } from "../../brokers/kafka.ts";
import { describeKafka } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";
import { withSnappy } from "../../kafka/records/literal-snappy.ts";

const WAIT_MS = 240_000;
const MiB = 1024 * 1024;

/** A failing body that no compression makes smaller than so many bytes. */
function incompressible(bytes: number): string {
  return JSON.stringify(`x${randomBytes((bytes * 3) / 4).toString("base64")}`);
}

describeKafka("copies that Kafka cannot take, and batches that nobody can read", (broker) => {
  let place: Namespace;
  const other = new Kafka({ brokers: [...broker.brokers], logLevel: logLevel.NOTHING });
  const admin = other.admin();
  const producer = other.producer({ allowAutoTopicCreation: false });

  beforeAll(async () => {
    place = broker.newNamespace();
    await admin.connect();
    await producer.connect();
  });
  afterAll(async () => {
    await producer.disconnect();
    await admin.disconnect();
    await place.remove();
  });

  function opened(
    options: Partial<KafkaOptions> = {},
    destinations: readonly Queue<string>[] = [],
    declare?: "verify",
  ) {
    const events: BrokerEvent[] = [];
    const adapter = kafka({
      brokers: broker.brokers,
      partitions: 1,
      sessionTimeoutMs: 6_000,
      reconnect: { firstMs: 50, maxMs: 500 },
      ...options,
    });
    const shop = createBroker(adapter, {
      destinations,
      ...(declare === undefined ? {} : { declare }),
      onEvent: (event) => events.push(event),
      // 30 MiB take their time on a busy machine.
      publish: { timeoutMs: WAIT_MS },
    });
    onTestFinished(() => shop.stop({ timeoutMs: 1_000 }));
    return { shop, events };
  }

  /** Consumes what begins with x by failing, until told otherwise. */
  function consuming(shop: ReturnType<typeof opened>["shop"], orders: Queue<string>) {
    const handled: string[] = [];
    let isMended = false;
    const consumer = shop.consume(
      orders,
      (text) => {
        if (text.startsWith("x") && !isMended) throw new TypeError("no stock");
        handled.push(text);
      },
      { concurrency: 2, prefetch: { messages: 5 }, retry: { attempts: 2, delay: { firstMs: 100, jitter: 0 } } },
    );
    const mend = (): void => {
      isMended = true;
    };
    return { consumer, handled, mend };
  }

  async function takeUpTo(name: string, bytes: number): Promise<void> {
    await admin.alterConfigs({
      validateOnly: false,
      resources: [{ type: 2, name, configEntries: [{ name: "max.message.bytes", value: String(bytes) }] }],
    });
    await until("the limit", WAIT_MS, async () => {
      const { resources } = await admin.describeConfigs({ resources: [{ type: 2, name }], includeSynonyms: false });
      const entry = resources[0]?.configEntries.find(({ configName }) => configName === "max.message.bytes");
      expect(entry?.configValue).toBe(String(bytes));
    });
  }

  /** Sends before anybody consumes: the codec is known to the whole process while it writes. */
  async function sentInSnappy(orders: Queue<string>, messages: { key?: string; value: string }[]): Promise<void> {
    const makes = opened({}, [orders]);
    await makes.shop.start();
    await makes.shop.stop();
    await withSnappy(async () => {
      await producer.send({ topic: `${orders.name}.queue`, compression: CompressionTypes.Snappy, messages });
    });
  }

  const earliest = async (name: string): Promise<number> => Number((await admin.fetchTopicOffsets(name))[0]?.low);

  /** Twenty good ones pass, and so many are dead. */
  async function othersPass(
    { shop }: Pick<ReturnType<typeof opened>, "shop">,
    orders: Queue<string>,
    { consumer, handled }: Pick<ReturnType<typeof consuming>, "consumer" | "handled">,
    dead: number,
  ): Promise<void> {
    for (let n = 0; n < 20; n++) await shop.send(orders, `good ${n}`);
    await until("the good ones", WAIT_MS, () => expect(handled).toHaveLength(20));
    await until("the dead ones", WAIT_MS, () => expect(consumer.status().deadLettered).toBe(dead));
    await until("all to be settled", WAIT_MS, () => expect(consumer.status().unsettled).toBe(0));
    expect(consumer.status()).toMatchObject({ parked: 0, state: "running" });
  }

  test("30 MiB that compression made small: the copies are compressed as well", async () => {
    const orders = queue<string>(`${place.namePrefix}inflating`);
    const { shop, events } = opened({}, [orders]);
    const { consumer, handled, mend } = consuming(shop, orders);
    await shop.start();
    const value = JSON.stringify("x".repeat(30 * MiB));
    await producer.send({ topic: `${orders.name}.queue`, compression: CompressionTypes.GZIP, messages: [{ value }] });
    await othersPass({ shop }, orders, { consumer, handled }, 1);
    expect(events.some(({ type }) => type === "parked")).toBe(false);
    const dead = deadLetters(shop, orders);
    const [entry] = (await dead.list({ bodyBytes: 10 })).entries;
    expect(entry).toMatchObject({
      reason: "attempts",
      size: value.length,
      valid: "unknown",
      reference: null,
      attempts: 2,
    });
    mend();
    // A copy of that size is not always confirmed in time on a busy machine. It stays in the dead letters then.
    await until("it to be sent back", 2 * WAIT_MS, async () => {
      expect(await (await dead.replay("all")).run()).toMatchObject({ done: 1 });
    });
    await until("it to be handled", WAIT_MS, () => expect(handled.at(-1)).toHaveLength(30 * MiB));
    await shop.stop();
  });

  test("larger than a copy may be: a dead letter refers to it, and it stays until that is gone", async () => {
    const orders = queue<string>(`${place.namePrefix}large`);
    const { shop } = opened({}, [orders]);
    const { consumer, handled, mend } = consuming(shop, orders);
    await shop.start();
    await takeUpTo(`${orders.name}.queue`, 8 * MiB);
    for (let n = 0; n < 5; n++) await shop.send(orders, `before ${n}`);
    await until("those before", WAIT_MS, () => expect(handled).toHaveLength(5));
    handled.length = 0;
    const bodies = Array.from({ length: 3 }, () => incompressible(3 * MiB));
    const headers = { tenant: "acme", [HEADER.deadReference]: "forged" };
    for (const [n, value] of bodies.entries()) {
      await producer.send({ topic: `${orders.name}.queue`, messages: [{ key: `k${n}`, value, headers }] });
    }
    await othersPass({ shop }, orders, { consumer, handled }, 3);
    const dead = deadLetters(shop, orders);
    const { entries } = await dead.list({ bodyBytes: 10 });
    expect(entries.map(({ reference }) => reference)).toEqual(bodies.map((_, n) => `${orders.name}.queue/0/${5 + n}`));
    for (const [n, entry] of entries.entries()) {
      expect(entry).toMatchObject({
        reason: "attempts",
        errorClass: "TypeError",
        attempts: 2,
        key: `k${n}`,
        size: bodies[n]?.length,
        valid: "unknown",
        cut: null,
        headers: { tenant: "acme" },
      });
    }
    expect((await dead.groups()).groups).toMatchObject([{ count: 3 }]);
    // So many that what is handled is deleted, up to what the first of them refers to.
    handled.length = 0;
    const many = Array.from({ length: 11_000 }, (_, n) => ({ body: `more ${n}` }));
    await shop.sendMany(orders, many);
    await until("what is handled to be deleted", WAIT_MS, async () =>
      expect(await earliest(`${orders.name}.queue`)).toBe(5),
    );
    await until("the others", WAIT_MS, () => expect(handled).toHaveLength(many.length));
    // One is discarded, one edited, and one sent back as it was.
    const archived: ArchivedEntry[] = [];
    const archive = { append: async (some: readonly ArchivedEntry[]) => void archived.push(...some) };
    const discard = await dead.discard(`id = ${entries[0]?.id}`, { archive });
    expect(await discard.run()).toMatchObject({ done: 1 });
    expect(archived.map(({ body }) => body)).toEqual([bodies[0]]);
    const edited = await dead.edit(entries[1]?.id ?? "", (body) => `mended ${(body as string).length}`);
    await until("the edited one", WAIT_MS, () => expect(handled.at(-1)).toBe(`mended ${(bodies[1]?.length ?? 0) - 2}`));
    expect(edited.editedFrom).toBe(entries[1]?.messageId);
    mend();
    expect(await (await dead.replay("all")).run()).toMatchObject({ done: 1 });
    await until("it to be handled", WAIT_MS, () => expect(handled.at(-1)).toBe(JSON.parse(bodies[2] ?? "")));
    expect(await dead.count()).toMatchObject({ count: 0 });
    expect(await earliest(`${orders.name}.queue`)).toBe(5);
    await shop.stop();
  });

  test("on an ordered queue its key goes on", async () => {
    const orders = queue<string>(`${place.namePrefix}in-order`, { ordered: true, key: (text) => text.slice(-1) });
    const { shop } = opened({}, [orders]);
    const { consumer, handled } = consuming(shop, orders);
    await shop.start();
    await takeUpTo(`${orders.name}.queue`, 8 * MiB);
    await producer.send({ topic: `${orders.name}.queue`, messages: [{ key: "0", value: incompressible(3 * MiB) }] });
    await othersPass({ shop }, orders, { consumer, handled }, 1);
    await shop.stop();
  });

  test("where the dead letters are gone, it is parked beside the others until they are back", async () => {
    const orders = queue<string>(`${place.namePrefix}gone`);
    const makes = opened({}, [orders]);
    await makes.shop.start();
    await makes.shop.stop();
    const { shop, events } = opened({}, [orders], "verify");
    const { consumer, handled } = consuming(shop, orders);
    await shop.start();
    const dlq = `${orders.name}.dlq`;
    await admin.deleteTopics({ topics: [dlq] });
    // A busy broker goes on taking records for a while after it said that the topic is deleted.
    let taken = -1;
    await until("the deleted topic to refuse records", WAIT_MS, async () => {
      taken++;
      await shop.send(orders, `x ${taken}`);
      await until("the message to end", WAIT_MS, () => {
        const { deadLettered, parked } = consumer.status();
        expect(deadLettered + parked).toBe(taken + 1);
      });
      expect(consumer.status().parked).toBe(1);
    });
    for (let n = 1; n < 6; n++) await shop.send(orders, `x ${taken + n}`);
    for (let n = 0; n < 20; n++) await shop.send(orders, `good ${n}`);
    await until("the good ones", WAIT_MS, () => expect(handled).toHaveLength(20));
    await until("the others to be parked", WAIT_MS, () => expect(consumer.status().parked).toBe(6));
    expect(consumer.status()).toMatchObject({ state: "stalled", error: { code: "not-found" } });
    expect(events.filter(({ type }) => type === "parked")).toHaveLength(6);
    const again = opened({}, [orders]);
    await again.shop.start();
    consumer.resume();
    await until("the dead letters", WAIT_MS, () => expect(consumer.status().deadLettered).toBe(taken + 6));
    await until("it to run", WAIT_MS, () => expect(consumer.status()).toMatchObject({ state: "running", parked: 0 }));
    expect(await deadLetters(again.shop, orders).count()).toMatchObject({ count: 6 });
    await again.shop.stop();
    await shop.stop();
  });

  test("a batch of an unknown codec is passed over, and sent back by somebody who knows the codec", async () => {
    const orders = queue<string>(`${place.namePrefix}codec`);
    const batch = Array.from({ length: 5 }, (_, n) => ({ key: `k${n}`, value: JSON.stringify(`of the batch ${n}`) }));
    await sentInSnappy(orders, batch);
    const { shop, events } = opened({}, [orders]);
    const { consumer, handled } = consuming(shop, orders);
    await shop.start();
    await othersPass({ shop }, orders, { consumer, handled }, 1);
    const dead = deadLetters(shop, orders);
    const { entries } = await dead.list();
    expect(entries).toMatchObject([
      {
        reason: "invalid",
        error: expect.stringContaining("no codec for snappy"),
        reference: `${orders.name}.queue/0/0-4`,
        valid: false,
        attempts: 0,
      },
    ]);
    expect(JSON.parse(entries[0]?.body ?? "")).toMatchObject({ refersTo: { offset: 0, lastOffset: 4, records: 5 } });
    expect(events.some((event) => event.type === "dead-lettered" && event.reason === "invalid")).toBe(true);
    expect((await dead.replay("all")).plan).toMatchObject({
      count: 0,
      refused: [{ count: 1, why: expect.stringContaining("unsupported") }],
    });
    handled.length = 0;
    await withSnappy(async () => {
      expect(await (await dead.replay("all")).run()).toMatchObject({ done: 1, failed: 0 });
    });
    await until("the batch", WAIT_MS, () => expect(handled).toHaveLength(5));
    expect(handled).toEqual(batch.map(({ value }) => JSON.parse(value)));
    expect(await dead.count()).toMatchObject({ count: 0 });
    await shop.stop();
  });

  test("a batch over the limit of what it may inflate to is read by who has a higher one", async () => {
    const placed = topic<string>(`${place.namePrefix}placed`);
    const own = createBroker(
      kafka({ brokers: broker.brokers, partitions: 1, sessionTimeoutMs: 6_000, maxInflatedBytes: 2 * MiB }),
      {},
    );
    onTestFinished(() => own.stop({ timeoutMs: 1_000 }));
    const handled: string[] = [];
    const consumer = own.subscribe(placed, "billing", (text) => void handled.push(text), { filter: "eu.#" });
    await own.start();
    const from = (place: string) => ({ "anybroker-routing-key": place });
    await producer.send({
      topic: placed.name,
      compression: CompressionTypes.GZIP,
      messages: [
        { value: JSON.stringify("y".repeat(1.5 * MiB)), headers: from("eu.ch") },
        { value: JSON.stringify("z".repeat(MiB)), headers: from("us.ny") },
        { value: JSON.stringify("small"), headers: from("eu.no") },
      ],
    });
    await own.publish(placed, "behind it", { routingKey: "eu.se" });
    await until("what is behind it", WAIT_MS, () => expect(handled).toEqual(["behind it"]));
    await until("it to be dead", WAIT_MS, () => expect(consumer.status().deadLettered).toBe(1));
    const name = `${placed.name}/0/0-2`;
    expect((await deadLetters(own, placed, "billing").list()).entries).toMatchObject([{ reference: name }]);
    const { shop } = opened();
    const dead = deadLetters(shop, placed, "billing");
    await shop.start();
    expect(await (await dead.replay("all")).run()).toMatchObject({ done: 1, failed: 0 });
    await until("what was asked for of it", WAIT_MS, () => expect(handled).toHaveLength(3));
    expect(handled.slice(1).map((text) => text.slice(0, 5))).toEqual(["yyyyy", "small"]);
    await shop.stop();
    await own.stop();
  });

  test("an unreadable batch among the retries holds none of them up, and is sent back by who can read it", async () => {
    const orders = queue<string>(`${place.namePrefix}bomb`);
    const { shop, events } = opened({ maxInflatedBytes: 2 * MiB }, [orders]);
    const { consumer, handled, mend } = consuming(shop, orders);
    await shop.start();
    const delays = `${orders.name}.queue.delays`;
    // Each alone can be read here.
    const value = JSON.stringify("y".repeat(1.5 * MiB));
    await producer.send({
      topic: delays,
      compression: CompressionTypes.GZIP,
      messages: [
        { partition: 0, value },
        { partition: 0, value },
      ],
    });
    await shop.send(orders, "x fails at first");
    await until("the retry", WAIT_MS, () => expect(consumer.status().deadLettered).toBe(1));
    const dead = deadLetters(shop, orders);
    await until("both dead letters", WAIT_MS, async () =>
      expect(new Set((await dead.list()).entries.map(({ reference }) => reference))).toEqual(
        new Set([null, `${delays}/0/0-1`]),
      ),
    );
    expect(events.some((event) => event.type === "notice" && event.error.message.includes(delays))).toBe(true);
    expect(await dead.count()).toMatchObject({ count: 2, complete: true });
    const able = opened();
    await able.shop.start();
    mend();
    expect(await (await deadLetters(able.shop, orders).replay("all")).run()).toMatchObject({ done: 2, failed: 0 });
    await until("all to be handled", WAIT_MS, () => expect(handled).toHaveLength(3));
    expect(handled.filter(({ length }) => length === 1.5 * MiB)).toHaveLength(2);
    await able.shop.stop();
    await shop.stop();
  });

  test("where a person prefers it, the partition stops at what cannot be read", async () => {
    const orders = queue<string>(`${place.namePrefix}stopping`);
    await sentInSnappy(orders, [{ value: JSON.stringify("in it") }]);
    const { shop } = opened({ unreadable: "stop" }, [orders]);
    const { consumer, handled } = consuming(shop, orders);
    await shop.start();
    await shop.send(orders, "behind it");
    await until("it to stop", WAIT_MS, () => expect(consumer.status().state).toBe("stalled"));
    expect(consumer.status().error).toMatchObject({ code: "unsupported" });
    expect(handled).toEqual([]);
    expect(await deadLetters(shop, orders).count()).toMatchObject({ count: 0 });
    await shop.stop();
    // Nothing was passed over: who can read it goes on there.
    await withSnappy(async () => {
      const able = opened({}, [orders]);
      const next = consuming(able.shop, orders);
      await able.shop.start();
      await until("the rest", WAIT_MS, () => expect(next.handled).toEqual(["in it", "behind it"]));
      await able.shop.stop();
    });
  });
});
