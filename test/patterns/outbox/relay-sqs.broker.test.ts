import { afterAll } from "vitest";
import { sqsHarness } from "../../adapters/conformance/sqs-harness.ts";
import { describeElasticMQ, describePostgres } from "../../brokers/suite.ts";
import { relayCases } from "./relay-cases.ts";

describePostgres("relays from Postgres", (postgres) => {
  describeElasticMQ("to SQS", (broker) => {
    const place = broker.newNamespace();
    afterAll(() => place.remove());
    relayCases(sqsHarness(broker, place, { withoutTopics: "it has queues only" }), postgres);
  });
});
