import { afterAll } from "vitest";
import { kafkaHarness } from "../../adapters/conformance/kafka-harness.ts";
import { describeKafka } from "../../brokers/suite.ts";
import { idempotentConsumers } from "./consumers.ts";

describeKafka(
  "idempotent consumers on Kafka",
  (broker) => {
    const place = broker.newNamespace();
    afterAll(() => place.remove());
    idempotentConsumers(kafkaHarness(broker, place));
  },
  { concurrent: true },
);
