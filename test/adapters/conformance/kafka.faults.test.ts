import { afterAll, describe, test } from "vitest";
import { conformance } from "../../../conformance/index.ts";
import { describeKafka } from "../../brokers/suite.ts";
import { kafkaHarness } from "./kafka-harness.ts";

describeKafka("Kafka", (broker) => {
  const place = broker.newNamespace();
  afterAll(() => place.remove());
  conformance(kafkaHarness(broker, place), { describe, test, afterAll }, "alone");
});
