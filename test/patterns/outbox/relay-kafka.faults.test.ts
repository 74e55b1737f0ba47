import { afterAll, describe } from "vitest";
import { kafkaHarness } from "../../adapters/conformance/kafka-harness.ts";
import { describeKafka, describePostgres } from "../../brokers/suite.ts";
import { relayCases } from "./relay-cases.ts";
import { postgresSource, sqliteSource } from "./relay-sources.ts";

describeKafka("relays to Kafka", (broker) => {
  const place = broker.newNamespace();
  afterAll(() => place.remove());
  const harness = kafkaHarness(broker, place);
  describePostgres("from Postgres", (postgres) => {
    relayCases(harness, postgresSource(postgres));
  });
  describe("from SQLite", () => {
    relayCases(harness, sqliteSource);
  });
});
