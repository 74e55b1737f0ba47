import { afterAll, describe, test } from "vitest";
import { describeFauxqs } from "../../brokers/suite.ts";
import { conformance } from "../../conformance/index.ts";
import { sqsHarness } from "./sqs-harness.ts";

describeFauxqs("SQS and SNS on fauxqs", (broker) => {
  const place = broker.newNamespace();
  afterAll(() => place.remove());
  conformance(sqsHarness(broker, place), { describe: describe.concurrent, test, afterAll }, "shared");
});
