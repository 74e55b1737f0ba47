import { afterAll, beforeAll, expect, test } from "vitest";
import { rabbitmq } from "../../../adapters/rabbitmq/index.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { queue } from "../../../core/destination.ts";
import type { VirtualHost } from "../../brokers/rabbitmq.ts";
import { describeRabbitMQ } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";
import { keepingSink, openAdapter } from "./open-adapter.ts";

const MESSAGES = 700;

describeRabbitMQ("channels of an ordered queue that end one after another", (broker) => {
  let place: VirtualHost;

  beforeAll(async () => {
    place = await broker.newVirtualHost();
  });
  afterAll(() => place?.remove());

  test("return all in order, though the engine wanted less in between", async () => {
    const orders = queue<{ n: number }>(`${place.namePrefix}orders`, { ordered: true, key: () => "one" });
    const app = createBroker(rabbitmq({ url: place.url }), { destinations: [orders] });
    await app.start();
    await app.sendMany(
      orders,
      Array.from({ length: MESSAGES }, (_, n) => ({ body: { n }, options: { id: `${n}` } })),
    );
    const taken = async (prefetch: number): Promise<readonly string[]> => {
      const { adapter } = await openAdapter({ url: place.url });
      const { kept, sink } = keepingSink();
      const options = { prefetch, maxPrefetch: MESSAGES, ordered: true, handlerTimeoutMs: 60_000 };
      await adapter.receive({ kind: "queue", name: orders.name }, options, sink);
      await until("the deliveries", 60_000, () => expect(kept).toHaveLength(prefetch));
      await adapter.close();
      return kept.map(({ id }) => id);
    };
    const all = Array.from({ length: MESSAGES }, (_, n) => `${n}`);
    expect(await taken(MESSAGES)).toEqual(all);
    expect(await taken(5)).toEqual(all.slice(0, 5));
    expect(await taken(MESSAGES)).toEqual(all);
    await app.stop();
  });
});
