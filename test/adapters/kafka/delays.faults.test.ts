import { afterAll, beforeAll, expect, test } from "vitest";
import { delaysTopic } from "../../../adapters/kafka/names.ts";
import type { QueueAddress, WorkAddress } from "../../../core/address.ts";
import { controlsOrNotRun, describeKafka } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";
import { codeOf, message, subscriptionOf, topology, workQueue } from "../seam-values.ts";
import { keepingSink, openAdapter } from "./open-adapter.ts";

const WAIT_MS = 240_000;

describeKafka("delays on Kafka", (broker) => {
  const names = broker.newNamespace();
  const named = (name: string): string => names.namePrefix + name;
  type Session = Awaited<ReturnType<typeof openAdapter>>;
  let session: Session;

  beforeAll(async () => {
    session = await openAdapter({ brokers: broker.brokers });
  });

  afterAll(async () => {
    await session?.adapter.close();
    await names.remove();
  });

  async function declared(name: string): Promise<QueueAddress> {
    const declaration = workQueue(named(name));
    expect(await session.adapter.declare(topology({ queues: [declaration] }))).toEqual([]);
    return declaration.address;
  }

  /** Receives, settles everything, and writes down when each came. */
  async function receive(from: WorkAddress, { adapter }: Session = session) {
    const { kept, sink } = keepingSink();
    const cameAt = new Map<string, number>();
    const receiver = await adapter.receive(
      from,
      { prefetch: 100, ordered: false },
      {
        ...sink,
        deliver: (batch) => {
          for (const { id } of batch) cameAt.set(id, Date.now());
          sink.deliver(batch);
          void receiver.settle(batch.map(({ token }) => ({ token, action: "ack" })));
        },
      },
    );
    return { receiver, kept, cameAt };
  }

  /** Everything that waits for an address, by whom it is read; 0 if all was sent on. */
  async function waiting(address: WorkAddress): Promise<number> {
    const topic = delaysTopic(address);
    const admin = session.adapter.kafkajs().admin();
    await admin.connect();
    try {
      const [committed] = await admin.fetchOffsets({ groupId: topic, topics: [topic] });
      const ends = await admin.fetchTopicOffsets(topic);
      const behind = ends.map(({ partition, high }) => {
        const offset = committed?.partitions.find((one) => one.partition === partition)?.offset ?? "-1";
        return Number(high) - Math.max(Number(offset), 0);
      });
      return behind.reduce((sum, count) => sum + count, 0);
    } finally {
      await admin.disconnect();
    }
  }

  test("nothing comes early, everything once and as it was, and nothing is left behind", async () => {
    const address = await declared("timed");
    const delays = [0, 1, 10, 250, 999, 1_000, 1_001, 1_500, 2_500, 4_000, 4_600, 6_000];
    const { receiver, kept, cameAt } = await receive(address);
    const sentAt = Date.now();
    const headers = Object.assign(Object.create(null), { tenant: "é" });
    const messages = delays.map((delayMs) => message(`d-${delayMs}`, { delayMs, key: `k-${delayMs}`, headers }));
    expect((await session.send(address, ...messages)).map(codeOf)).toEqual(delays.map(() => "confirmed"));
    await until("all", WAIT_MS, () => expect(cameAt.size).toBe(delays.length));
    for (const delayMs of delays) expect((cameAt.get(`d-${delayMs}`) ?? 0) - sentAt).toBeGreaterThanOrEqual(delayMs);
    await until("nothing to wait", WAIT_MS, async () => expect(await waiting(address)).toBe(0));
    expect(kept).toHaveLength(delays.length);
    for (const one of kept) {
      expect(one).toMatchObject({ key: one.id.replace("d", "k"), contentType: "text/plain" });
      expect({ ...one.headers }).toEqual({ tenant: "é" });
      expect(Buffer.from(one.body).toString()).toBe(`body of ${one.id}`);
    }
    await receiver.close();
  });

  test("a longer delay holds up no shorter one", async () => {
    const address = await declared("overtaking");
    const { receiver, kept } = await receive(address);
    const long = message("long", { delayMs: 3_600_000 });
    await session.send(address, long, message("middle", { delayMs: 1_200 }), message("short", { delayMs: 100 }));
    await until("both", WAIT_MS, () => expect(kept.map(({ id }) => id)).toEqual(["short", "middle"]));
    await until("one to wait", WAIT_MS, async () => expect(await waiting(address)).toBe(1));
    await receiver.close();
  });

  test("a delayed event comes once to each subscription, and one for a subscription to that alone", async () => {
    const [one, other] = [subscriptionOf(named("events"), "one"), subscriptionOf(named("events"), "other")];
    expect(await session.adapter.declare(topology({ subscriptions: [one, other] }))).toEqual([]);
    const [first, second] = [await receive(one.address), await receive(other.address)];
    const sentAt = Date.now();
    await session.send({ kind: "topic", name: named("events") }, message("event", { delayMs: 1_500 }));
    await session.send(one.address, message("copy", { delayMs: 1_100 }));
    await until("all", WAIT_MS, () => {
      expect(first.kept.map(({ id }) => id).sort()).toEqual(["copy", "event"]);
      expect(second.kept.map(({ id }) => id)).toEqual(["event"]);
    });
    for (const { cameAt } of [first, second]) {
      expect((cameAt.get("event") ?? 0) - sentAt).toBeGreaterThanOrEqual(1_500);
    }
    await Promise.all([first.receiver.close(), second.receiver.close()]);
  });

  test("what is delayed outlives those who sent it and those who waited with it", async () => {
    const address = await declared("outliving");
    const delays = [500, 2_000, 8_000];
    const first = await openAdapter({ brokers: broker.brokers });
    const before = await receive(address, first);
    const sentAt = Date.now();
    await first.send(address, ...delays.map((delayMs) => message(`d-${delayMs}`, { delayMs })));
    // On a busy machine more than that may have come by now.
    await until("the first", WAIT_MS, () => expect(before.cameAt.size).toBeGreaterThanOrEqual(1));
    await first.adapter.close();
    const second = await openAdapter({ brokers: broker.brokers });
    const after = await receive(address, second);
    await until("the others", WAIT_MS, () =>
      expect(new Set([...before.cameAt.keys(), ...after.cameAt.keys()]).size).toBe(3),
    );
    for (const { cameAt } of [before, after]) {
      for (const [id, at] of cameAt) expect(at - sentAt).toBeGreaterThanOrEqual(Number(id.slice(2)));
    }
    await second.adapter.close();
  });

  test("what is delayed outlives the broker's end", async (context) => {
    const controls = controlsOrNotRun(broker, context);
    const address = await declared("power-cut");
    const delays = Array.from({ length: 40 }, (_, index) => index * 100);
    const { receiver, cameAt } = await receive(address);
    const sentAt = Date.now();
    const sent = await session.send(address, ...delays.map((delayMs) => message(`d-${delayMs}`, { delayMs })));
    expect(new Set(sent.map(codeOf))).toEqual(new Set(["confirmed"]));
    await until("some", WAIT_MS, () => expect(cameAt.size).toBeGreaterThan(5));
    await controls.kill();
    await controls.start();
    await until("all", 2 * WAIT_MS, () => expect(cameAt.size).toBe(delays.length));
    for (const [id, at] of cameAt) expect(at - sentAt).toBeGreaterThanOrEqual(Number(id.slice(2)));
    await receiver.close();
  }, 600_000);
});
