import { randomUUID } from "node:crypto";
import { afterAll, expect } from "vitest";
import type { VirtualHost } from "../brokers/rabbitmq/virtual-host.ts";
import { describeRabbitMQ } from "../brokers/suite.ts";
import { verbsSuite } from "./verbs-on-broker.ts";

describeRabbitMQ("the command line on RabbitMQ", (broker) => {
  const { record } = broker;
  const management = record.how === "url" ? undefined : new URL(record.managementUrl);
  let place: VirtualHost | undefined;
  afterAll(() => place?.remove());
  verbsSuite({
    adapter: "rabbitmq",
    async url() {
      place = await broker.newVirtualHost();
      return management === undefined ? place.url : `${place.url}?managementUrl=${management.origin}`;
    },
    prefix: `test-${randomUUID()}.`,
    server: { version: expect.stringMatching(/^\d+\.\d+/), servers: null },
    consumers: 0,
    oldestAgeMs: null,
    comparesFilters: management !== undefined,
    watchesQueues: false,
    lists: broker.record.how !== "url",
  });
});
