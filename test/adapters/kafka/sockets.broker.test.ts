import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { kafka } from "../../../adapters/kafka/index.ts";
import type { Broker } from "../../../core/broker.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { queue, topic } from "../../../core/destination.ts";
import type { Namespace } from "../../brokers/kafka.ts";
import { describeKafka } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";
import { countSockets } from "./sockets.ts";

const WAIT_MS = 240_000;
const CONSUMERS = 12;
/** To each broker: one for short questions, one to produce on, one for long polls. */
const PER_BROKER = 3;

describeKafka("sockets to Kafka", (server) => {
  let place: Namespace;
  let broker: Broker | undefined;
  beforeAll(() => {
    place = server.newNamespace();
  });
  afterEach(() => broker?.stop());
  afterAll(() => place?.remove());

  test("are few, however many consumers a process has, and those that stop take none from the others", async () => {
    using sockets = countSockets();
    const queues = Array.from({ length: CONSUMERS / 2 }, (_, number) => queue<number>(`${place.namePrefix}q${number}`));
    const events = Array.from({ length: CONSUMERS / 2 }, (_, number) => topic<number>(`${place.namePrefix}t${number}`));
    const handled = new Map<string, number>();
    const handle = (name: string) => async () => void handled.set(name, (handled.get(name) ?? 0) + 1);
    const stalls: string[] = [];
    broker = createBroker(kafka({ brokers: server.brokers, partitions: 2 }), {
      onEvent: (event) => {
        if (event.type === "stalled") stalls.push(event.error.message);
      },
    });
    const consumers = [
      ...queues.map((one) => broker?.consume(one, handle(one.name))),
      ...events.map((one) => broker?.subscribe(one, "billing", handle(one.name))),
    ];
    await broker.start();
    await until("all but a few sockets closed", WAIT_MS, async () => {
      expect(sockets.open).toBeLessThanOrEqual(PER_BROKER * server.brokers.length);
    });

    const sendAll = async (): Promise<void> => {
      await Promise.all(queues.map((one) => broker?.send(one, 1)));
      await Promise.all(events.map((one) => broker?.publish(one, 1)));
    };
    await sendAll();
    await until("all handled", WAIT_MS, async () => expect(handled.size).toBe(CONSUMERS));
    expect([...handled.values()].every((count) => count === 1)).toBe(true);

    const names = [...queues, ...events].map(({ name }) => name);
    const isStopped = (index: number): boolean => index % 2 === 0;
    await Promise.all(consumers.filter((_, index) => isStopped(index)).map((consumer) => consumer?.stop()));
    await sendAll();
    const staying = names.filter((_, index) => !isStopped(index));
    await until("those that stay to go on", WAIT_MS, async () => {
      for (const name of staying) expect(handled.get(name)).toBe(2);
    });
    expect(names.filter((name) => !staying.includes(name)).map((name) => handled.get(name))).toEqual(
      Array.from({ length: CONSUMERS / 2 }, () => 1),
    );
    expect(stalls).toEqual([]);
    await until("all but a few sockets closed again", WAIT_MS, async () => {
      expect(sockets.open).toBeLessThanOrEqual(PER_BROKER * server.brokers.length);
    });
    await broker.stop();
    expect(sockets.open).toBe(0);
  });

  test("a subscription that is far behind and one that is not read the same partitions side by side", async () => {
    const events = topic<number>(`${place.namePrefix}shared`);
    broker = createBroker(kafka({ brokers: server.brokers, partitions: 2 }));
    const all = Array.from({ length: 2_000 }, (_, body) => body);
    const [seen, late, paused] = [new Set<number>(), new Set<number>(), new Set<number>()];
    const first = broker.subscribe(events, "first", async (body) => void seen.add(body));
    broker.subscribe(events, "paused", async (body) => {
      paused.add(body);
      await new Promise((resolve) => setTimeout(resolve, 50));
    });
    await broker.start();
    await broker.publishMany(
      events,
      all.map((body) => ({ body, options: { key: `${body}` } })),
    );
    await until("what the first reads", WAIT_MS, async () => expect(seen.size).toBe(all.length));
    broker.subscribe(events, "late", async (body) => void late.add(body), { from: "earliest" });
    await broker.publish(events, -1);
    await until("what the first reads beside", WAIT_MS, async () => expect(seen.has(-1)).toBe(true));
    await until("what the late one reads", WAIT_MS, async () => expect(late.size).toBe(all.length + 1));
    expect(paused.size).toBeLessThan(all.length);
    await first.stop();
    await broker.publish(events, -2);
    await until("what the late one reads at last", WAIT_MS, async () => expect(late.has(-2)).toBe(true));
    expect(seen.has(-2)).toBe(false);
  });
});
