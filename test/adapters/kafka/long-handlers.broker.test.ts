import { afterAll, beforeAll, expect, test } from "vitest";
import { kafka } from "../../../adapters/kafka/index.ts";
import type { Broker } from "../../../core/broker.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { queue } from "../../../core/destination.ts";
import type { Namespace } from "../../brokers/kafka.ts";
import { describeKafka } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";

const SESSION_MS = 6_000;
const HANDLER_MS = 9_000;
const MESSAGES = 8;
const ends = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, HANDLER_MS));

describeKafka("handlers longer than the session", (server) => {
  let place: Namespace;
  beforeAll(() => {
    place = server.newNamespace();
  });
  afterAll(() => place?.remove());

  test("two consumers, the second joining while handlers run, handle each message once", async () => {
    const slow = queue<number>(`${place.namePrefix}slow`);
    const starts: number[] = [];
    const done: number[] = [];
    const open = async (): Promise<Broker> => {
      const options = { brokers: server.brokers, partitions: 4, sessionTimeoutMs: SESSION_MS };
      const broker = createBroker(kafka(options));
      broker.consume(
        slow,
        async (number) => {
          starts.push(number);
          await ends();
          done.push(number);
        },
        { concurrency: 2 },
      );
      await broker.start();
      return broker;
    };
    const first = await open();
    await first.sendMany(
      slow,
      Array.from({ length: MESSAGES }, (_, body) => ({ body, options: { key: `${body}` } })),
    );
    await until("the first handlers to run", 30_000, async () => expect(starts).toHaveLength(2));
    const second = await open();
    try {
      await until("every message to be handled", 90_000, async () => expect(done).toHaveLength(MESSAGES));
      await until("nothing to be left", 30_000, async () => expect((await first.depth(slow)).ready).toBe(0));
      const [one, other] = [first, second].map((broker) => broker.status().consumers[0]);
      expect(one?.succeeded).toBeGreaterThan(0);
      expect(other?.succeeded).toBeGreaterThan(0);
      expect(starts.toSorted()).toEqual(Array.from({ length: MESSAGES }, (_, number) => number));
    } finally {
      await Promise.all([first.stop(), second.stop()]);
    }
  });
});
