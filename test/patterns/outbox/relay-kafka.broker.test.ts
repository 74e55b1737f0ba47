import { afterAll } from "vitest";
import { kafkaHarness } from "../../adapters/conformance/kafka-harness.ts";
import { describeKafka, describePostgres } from "../../brokers/suite.ts";
import { relayCases } from "./relay-cases.ts";

describePostgres("relays from Postgres", (postgres) => {
  describeKafka("to Kafka", (broker) => {
    const place = broker.newNamespace();
    afterAll(() => place.remove());
    relayCases(kafkaHarness(broker, place), postgres);
  });
});
