import { afterAll } from "vitest";
import { sqsHarness } from "../../adapters/conformance/sqs-harness.ts";
import { describeFauxqs } from "../../brokers/suite.ts";
import { sigkillSuite } from "./crashes/sigkill.ts";
import { deadLettersSuite } from "./suite.ts";

describeFauxqs("SQS and SNS on fauxqs", (broker) => {
  const place = broker.newNamespace();
  afterAll(() => place.remove());
  const harness = sqsHarness(broker, place);
  deadLettersSuite("SQS", () => harness);
  sigkillSuite("SQS", () => harness);
});
