import { afterAll, describe, test } from "vitest";
import { describeElasticMQ, describeFauxqs } from "../../brokers/suite.ts";
import { conformance } from "../../conformance/index.ts";
import { sqsHarness } from "./sqs-harness.ts";

describeFauxqs("SQS and SNS on fauxqs", (broker) => {
  const place = broker.newNamespace();
  afterAll(() => place.remove());
  const harness = sqsHarness(broker, place, {
    withoutSupplementaryCharacters: "its queues refuse characters beyond U+FFFF in bodies, which SQS takes",
  });
  conformance(harness, { describe, test, afterAll });
});

describeElasticMQ("SQS on ElasticMQ", (broker) => {
  const place = broker.newNamespace();
  afterAll(() => place.remove());
  const harness = sqsHarness(broker, place, { withoutTopics: "it has queues only, and refuses what is asked of SNS" });
  conformance(harness, { describe, test, afterAll });
});
