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
  const harness = sqsHarness(broker, place, {
    withoutTopics: "it has queues only, and refuses what is asked of SNS",
    // Seen by the SDK alone: 1,700 messages confirmed, received all the while and never deleted; two restarts in good order
    // later, with every visibility timeout over, 1,639 stood on the queue.
    losesInRestarts: "it loses messages that are received while it stops, though nobody deletes them",
  });
  conformance(harness, { describe, test, afterAll });
});
