import { afterAll } from "vitest";
import { sqsHarness } from "../../adapters/conformance/sqs-harness.ts";
import { describeElasticMQ, describeFauxqs } from "../../brokers/suite.ts";
import { deadLettersSuite } from "./suite.ts";

describeFauxqs("SQS and SNS on fauxqs", (broker) => {
  const place = broker.newNamespace();
  afterAll(() => place.remove());
  const harness = sqsHarness(broker, place, {});
  deadLettersSuite("SQS", () => harness);
});

describeElasticMQ("SQS on ElasticMQ", (broker) => {
  const place = broker.newNamespace();
  afterAll(() => place.remove());
  const harness = sqsHarness(broker, place, { withoutTopics: "it has queues only" });
  deadLettersSuite("SQS", () => harness);
});
