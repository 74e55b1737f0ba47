import { afterAll } from "vitest";
import { sqsHarness } from "../../adapters/conformance/sqs-harness.ts";
import { describeElasticMQ, describeFauxqs, describePostgres } from "../../brokers/suite.ts";
import { relayCases } from "./relay-cases.ts";
import { postgresSource, sqliteSource } from "./relay-sources.ts";

describeFauxqs("relays to SQS and SNS on fauxqs", (broker) => {
  const place = broker.newNamespace();
  afterAll(() => place.remove());
  describePostgres("from Postgres", (postgres) => relayCases(sqsHarness(broker, place), postgresSource(postgres)));
});

describeElasticMQ("relays from SQLite to SQS on ElasticMQ", (broker) => {
  const place = broker.newNamespace();
  afterAll(() => place.remove());
  relayCases(sqsHarness(broker, place), sqliteSource);
});
