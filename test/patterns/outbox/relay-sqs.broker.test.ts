import { afterAll, describe } from "vitest";
import { sqsHarness } from "../../adapters/conformance/sqs-harness.ts";
import { describeElasticMQ, describePostgres } from "../../brokers/suite.ts";
import { relayCases } from "./relay-cases.ts";
import { postgresSource, sqliteSource } from "./relay-sources.ts";

describeElasticMQ("relays to SQS", (broker) => {
  const place = broker.newNamespace();
  afterAll(() => place.remove());
  const harness = sqsHarness(broker, place, { withoutTopics: "it has queues only" });
  describePostgres("from Postgres", (postgres) => {
    relayCases(harness, postgresSource(postgres));
  });
  describe("from SQLite", () => {
    relayCases(harness, sqliteSource);
  });
});
