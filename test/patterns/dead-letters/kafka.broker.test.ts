import { afterAll } from "vitest";
import { kafkaHarness } from "../../adapters/conformance/kafka-harness.ts";
import { describeKafka } from "../../brokers/suite.ts";
import { sigkillSuite } from "./crashes/sigkill.ts";
import { deadLettersSuite } from "./suite.ts";

describeKafka("Kafka", (broker) => {
  const place = broker.newNamespace();
  afterAll(() => place.remove());
  const harness = kafkaHarness(broker, place);
  deadLettersSuite("Kafka", () => harness);
  sigkillSuite("Kafka", () => harness);
});
