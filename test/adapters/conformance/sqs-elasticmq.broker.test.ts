import { afterAll, describe, test } from "vitest";
import { conformance } from "../../../conformance/index.ts";
import { describeElasticMQ } from "../../brokers/suite.ts";
import { sqsHarness } from "./sqs-harness.ts";

describeElasticMQ("SQS on ElasticMQ", (broker) => {
  const place = broker.newNamespace();
  afterAll(() => place.remove());
  conformance(sqsHarness(broker, place), { describe: describe.concurrent, test, afterAll }, "shared");
});
