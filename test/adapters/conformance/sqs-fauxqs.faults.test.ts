import { afterAll, describe, test } from "vitest";
import { conformance } from "../../../conformance/index.ts";
import { describeFauxqs } from "../../brokers/suite.ts";
import { sqsHarness } from "./sqs-harness.ts";

describeFauxqs("SQS and SNS on fauxqs", (broker) => {
  const place = broker.newNamespace();
  afterAll(() => place.remove());
  conformance(sqsHarness(broker, place), { describe, test, afterAll }, "alone");
});
