import { afterAll, beforeAll, test } from "vitest";
import { rabbitmq } from "../../../adapters/rabbitmq/index.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { queue } from "../../../core/destination.ts";
import type { VirtualHost } from "../../brokers/rabbitmq.ts";
import { describeRabbitMQ } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";

interface Order {
  readonly n: number;
}

const TIMEOUT_MS = 8_000;

describeRabbitMQ("deliveries that are held for longer than RabbitMQ allows", (broker) => {
  let place: VirtualHost;
  let names = 0;
  beforeAll(async () => {
    place = await broker.newVirtualHost();
  });
  afterAll(() => place?.remove());

  const newName = (): string => `${place.namePrefix}held-${++names}`;
  const adapter = () => rabbitmq({ url: place.url, consumerTimeoutMs: TIMEOUT_MS });

  test.concurrent("an ordered message that rests for longer keeps its attempt, its due time and its place", async ({
    expect,
  }) => {
    const orders = queue<Order>(newName(), { ordered: true, key: () => "one" });
    const app = createBroker(adapter());
    const starts: { n: number; attempt: number; at: number }[] = [];
    const restMs = TIMEOUT_MS * 2;
    const consumer = app.consume(
      orders,
      ({ n }, { attempt }) => {
        starts.push({ n, attempt, at: performance.now() });
        if (n === 1 && attempt === 1) throw new Error("not yet");
      },
      { retry: { attempts: 3, delay: { firstMs: restMs, jitter: 0 } } },
    );
    await app.start();
    for (let n = 1; n <= 20; n++) await app.send(orders, { n });
    await until("all", 120_000, () => expect(starts).toHaveLength(21));
    expect(starts.map(({ n, attempt }) => [n, attempt])).toEqual([
      [1, 1],
      [1, 2],
      ...Array.from({ length: 19 }, (_, index) => [index + 2, 1]),
    ]);
    const [first, second] = starts;
    expect((second?.at ?? 0) - (first?.at ?? 0)).toBeGreaterThanOrEqual(restMs - 1);
    await until("the end", 60_000, () => expect(consumer.status().unsettled).toBe(0));
    expect(await app.depth(orders)).toMatchObject({ ready: 0 });
    expect(consumer.status()).toMatchObject({ fenced: 0, deadLettered: 0 });
    await app.stop();
  });

  test.concurrent("a handler of an ordered destination may run for longer, once, and other keys and processes go on", async ({
    expect,
  }) => {
    const orders = queue<Order>(newName(), { ordered: true, key: ({ n }) => String(n) });
    const app = createBroker(adapter());
    const other = createBroker(adapter());
    const starts: string[] = [];
    const release = Promise.withResolvers<void>();
    const handler = async ({ n }: Order, { attempt }: { attempt: number }): Promise<void> => {
      starts.push(`${n}#${attempt}`);
      if (n === 1) await release.promise;
    };
    const consumer = app.consume(orders, handler, { concurrency: 5 });
    await app.start();
    await app.send(orders, { n: 1 });
    await until("the start", 60_000, () => expect(starts).toEqual(["1#1"]));
    const beside = other.consume(orders, handler, { concurrency: 5 });
    await other.start();
    // Several times the limit, told by messages that come and go meanwhile.
    const end = performance.now() + TIMEOUT_MS * 2;
    let n = 1;
    while (performance.now() < end) {
      await app.send(orders, { n: ++n });
      await until("the next", 60_000, () => expect(starts).toContain(`${n}#1`));
    }
    release.resolve();
    await until("the end", 60_000, () => expect(consumer.status().unsettled + beside.status().unsettled).toBe(0));
    expect(starts.filter((start) => start.startsWith("1#"))).toEqual(["1#1"]);
    expect(new Set(starts).size).toBe(starts.length);
    await Promise.all([app.stop(), other.stop()]);
    const counting = createBroker(adapter(), { destinations: [orders] });
    await counting.start();
    expect(await counting.depth(orders)).toMatchObject({ ready: 0 });
    await counting.stop();
  });

  test.concurrent("a handler of an unordered destination that may run for longer is refused at start", async ({
    expect,
  }) => {
    const name = newName();
    const app = createBroker(adapter());
    app.consume(queue<Order>(name), () => {}, { timeoutMs: TIMEOUT_MS });
    await expect(app.start()).rejects.toMatchObject({
      code: "start-failed",
      problems: [
        {
          code: "unsupported",
          message: expect.stringMatching(new RegExp(`${name}.*timeoutMs.*consumerTimeoutMs`, "s")),
        },
      ],
    });
  });

  test.concurrent("what waits for its turn for too long is given back, and handled once", async ({ expect }) => {
    const orders = queue<Order>(newName());
    const app = createBroker(rabbitmq({ url: place.url, consumerTimeoutMs: 60_000 }));
    const starts: string[] = [];
    const release = Promise.withResolvers<void>();
    const consumer = app.consume(
      orders,
      async ({ n }, { id }) => {
        starts.push(id);
        if (n === 1) await release.promise;
      },
      { concurrency: 1, timeoutMs: 29_000, prefetch: { messages: 10 } },
    );
    const ids = Array.from({ length: 8 }, (_, index) => `waits-${index + 1}`);
    await app.start();
    await app.sendMany(
      orders,
      ids.map((id, index) => ({ body: { n: index + 1 }, options: { id } })),
    );
    await until("what waits is given back", 60_000, () => expect(consumer.status().requeued).toBeGreaterThan(0));
    expect(starts).toEqual(["waits-1"]);
    release.resolve();
    await until("all", 60_000, () => expect(consumer.status().succeeded).toBe(8));
    expect(starts.toSorted()).toEqual(ids);
    await app.stop();
  });
});
