import { afterAll } from "vitest";
import { kafkaHarness } from "../../adapters/conformance/kafka-harness.ts";
import { describeKafka, describePostgres } from "../../brokers/suite.ts";
import { inboxConsumers } from "./inbox-cases.ts";
import { onPostgres, onSqlite } from "./inbox-databases.ts";

describeKafka(
  "an inbox behind Kafka",
  (broker) => {
    const place = broker.newNamespace();
    afterAll(() => place.remove());
    const harness = kafkaHarness(broker, place);
    inboxConsumers(harness, onSqlite);
    describePostgres("with Postgres", (postgres) => inboxConsumers(harness, onPostgres(postgres)));
  },
  { concurrent: true },
);
