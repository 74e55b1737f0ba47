import { randomUUID } from "node:crypto";
import { afterAll, expect } from "vitest";
import type { VirtualHost } from "../brokers/rabbitmq/virtual-host.ts";
import { describeRabbitMQ } from "../brokers/suite.ts";
import { verbsSuite } from "./verbs-on-broker.ts";

describeRabbitMQ("the command line on RabbitMQ", (broker) => {
  let place: VirtualHost | undefined;
  afterAll(() => place?.remove());
  verbsSuite({
    adapter: "rabbitmq",
    async url() {
      place = await broker.newVirtualHost();
      const { record } = broker;
      return record.how === "url" ? place.url : `${place.url}?managementUrl=${new URL(record.managementUrl).origin}`;
    },
    prefix: `test-${randomUUID()}.`,
    server: { version: expect.stringMatching(/^\d+\.\d+/), servers: null },
    consumers: 0,
    oldestAgeMs: null,
    watchesQueues: false,
    lists: broker.record.how !== "url",
  });
});
