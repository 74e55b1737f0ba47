import { afterAll } from "vitest";
import { sqsHarness } from "../../adapters/conformance/sqs-harness.ts";
import { describeElasticMQ, describeFauxqs } from "../../brokers/suite.ts";
import { idempotentConsumers } from "./consumers.ts";

describeFauxqs(
  "idempotent consumers on SQS and SNS, fauxqs",
  (broker) => {
    const place = broker.newNamespace();
    afterAll(() => place.remove());
    idempotentConsumers(sqsHarness(broker, place));
  },
  { concurrent: true },
);

describeElasticMQ(
  "idempotent consumers on SQS, ElasticMQ",
  (broker) => {
    const place = broker.newNamespace();
    afterAll(() => place.remove());
    idempotentConsumers(sqsHarness(broker, place));
  },
  { concurrent: true },
);
