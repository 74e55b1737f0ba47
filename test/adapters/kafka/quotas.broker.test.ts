import { randomUUID } from "node:crypto";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { kafka } from "../../../adapters/kafka/index.ts";
import { BrokerSocket } from "../../../adapters/kafka/kafkajs/broker-socket.ts";
import type { Broker } from "../../../core/broker.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { queue } from "../../../core/destination.ts";
import type { Namespace } from "../../brokers/kafka.ts";
import { describeKafka } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";
import { countSockets } from "./sockets.ts";

const WAIT_MS = 240_000;
const KB = 1_000;

describeKafka("quotas of Kafka", (server) => {
  let place: Namespace;
  let broker: Broker | undefined;
  beforeAll(() => {
    place = server.newNamespace();
  });
  afterEach(() => broker?.stop());
  afterAll(() => place?.remove());

  /** Bounds what a client may do in a second. */
  async function limit(clientId: string, quota: string, perSecond: number): Promise<void> {
    const [host = "", port] = server.brokers[0]?.split(":") ?? [];
    const settings = { clientId: "quotas", tls: undefined, sasl: undefined };
    const timeouts = { connectionTimeoutMs: 60_000, requestTimeoutMs: 60_000 };
    const address = { host, port: Number(port) };
    const socket = new BrokerSocket(
      { ...settings, ...timeouts },
      async () => address,
      () => undefined,
    );
    const value = Buffer.alloc(8);
    value.writeDoubleBE(perSecond);
    const error = await socket.ask({
      name: "AlterClientQuotas",
      key: 49,
      version: 0,
      write: (to) => {
        to.writeInt32(1).writeInt32(1).writeString("client-id").writeString(clientId);
        to.writeInt32(1).writeString(quota).writeBuffer(value).writeBoolean(false).writeBoolean(false);
      },
      read: (from) => {
        from.readInt32(); // how long it slows us down
        from.readInt32(); // the number of entries
        return from.readInt16();
      },
    });
    expect(error).toBe(0);
    await socket.end(new Error("done") as never);
  }

  test("to read within one is slow, and neither a broken connection nor a trouble", async () => {
    const clientId = `slow-${randomUUID()}`;
    const work = queue<string>(`${place.namePrefix}work`);
    const sender = createBroker(kafka({ brokers: server.brokers, partitions: 2 }), { destinations: [work] });
    await sender.start();
    const count = 40;
    // Kafka counts over eleven seconds: so much comes at once, and the rest as the quota allows.
    const perSecond = 200 * KB;
    const bodies = Array.from({ length: count }, (_, number) => `${number} `.padEnd(80 * KB, "x"));
    await sender.sendMany(
      work,
      bodies.map((body, number) => ({ body, options: { key: `${number}` } })),
    );
    await sender.stop();
    await limit(clientId, "consumer_byte_rate", perSecond);

    using sockets = countSockets();
    const told: string[] = [];
    broker = createBroker(kafka({ brokers: server.brokers, clientId, partitions: 2 }), {
      onEvent: (event) => {
        if (event.type === "stalled" || event.type === "notice") told.push(event.error.message);
      },
    });
    const seen: string[] = [];
    broker.consume(work, async (body) => void seen.push(body));
    await broker.start();
    await until("all to be handled", WAIT_MS, async () => expect(seen.length).toBeGreaterThanOrEqual(count));
    expect(new Set(seen)).toEqual(new Set(bodies));
    expect(told).toEqual([]);
    // Of two groups that join, and what a process has of a broker.
    expect(sockets.made).toBeLessThanOrEqual(12);
  });
});
