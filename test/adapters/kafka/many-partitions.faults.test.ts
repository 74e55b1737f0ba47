import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { kafka } from "../../../adapters/kafka/index.ts";
import type { Broker } from "../../../core/broker.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { queue } from "../../../core/destination.ts";
import type { Namespace } from "../../brokers/kafka.ts";
import { describeKafka } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";

const WAIT_MS = 240_000;
const PARTITIONS = 800;

describeKafka("very many partitions", (server) => {
  let place: Namespace;
  let broker: Broker | undefined;
  beforeAll(() => {
    place = server.newNamespace();
  });
  afterEach(() => broker?.stop());
  afterAll(() => place?.remove());

  test("that are made at the start are no trouble while their brokers do not lead them yet", async () => {
    const work = queue<number>(`${place.namePrefix}work`);
    const told: string[] = [];
    broker = createBroker(kafka({ brokers: server.brokers, partitions: PARTITIONS }), {
      // 800 logs take their time to be made on a busy machine.
      publish: { timeoutMs: WAIT_MS },
      onEvent: (event) => {
        if (event.type === "stalled" || event.type === "notice") told.push(event.error.message);
      },
    });
    const seen = new Set<number>();
    broker.consume(work, async (body) => void seen.add(body));
    await broker.start();
    const all = Array.from({ length: PARTITIONS * 3 }, (_, body) => body);
    await broker.sendMany(
      work,
      all.map((body) => ({ body, options: { key: `${body}` } })),
    );
    await until("all to be handled", WAIT_MS, async () => expect(seen.size).toBe(all.length));
    // A busy server may take longer than a consumer waits in silence. Then its partitions are reported together.
    expect(told.length, told.join("\n")).toBeLessThan(PARTITIONS / 10);
  });
});
