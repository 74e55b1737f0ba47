import { afterAll, describe, test } from "vitest";
import { conformance, type Runner } from "../../../conformance/index.ts";
import { describeFauxqs } from "../../brokers/suite.ts";
import { sqsHarness } from "./sqs-harness.ts";

/** Sections run side by side, the cases of one do not: fauxqs is a single process, which other files use meanwhile. */
const runner: Runner = {
  describe: describe.concurrent,
  test: (title, body, timeout) => test(title, { timeout, concurrent: false }, body),
  afterAll,
};

describeFauxqs("SQS and SNS on fauxqs", (broker) => {
  const place = broker.newNamespace();
  afterAll(() => place.remove());
  conformance(sqsHarness(broker, place), runner, "shared");
});
