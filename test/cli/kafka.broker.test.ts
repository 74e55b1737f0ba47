import { afterAll, expect } from "vitest";
import { describeKafka } from "../brokers/suite.ts";
import { verbsSuite } from "./verbs-on-broker.ts";

describeKafka("the command line on Kafka", (broker) => {
  const place = broker.newNamespace();
  afterAll(() => place.remove());
  verbsSuite({
    adapter: "kafka",
    url: () => `kafka://${broker.brokers.join(",")}`,
    prefix: place.namePrefix,
    server: { version: null, servers: 1 },
    consumers: 0,
    oldestAgeMs: expect.any(Number),
    comparesFilters: true,
    watchesQueues: true,
    lists: true,
  });
});
