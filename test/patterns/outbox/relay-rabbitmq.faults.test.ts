import { describe } from "vitest";
import { rabbitMQHarness } from "../../adapters/conformance/rabbitmq-harness.ts";
import { useVirtualHost } from "../../adapters/conformance/virtual-host.ts";
import { describePostgres, describeRabbitMQ } from "../../brokers/suite.ts";
import { relayCases } from "./relay-cases.ts";
import { postgresSource, sqliteSource } from "./relay-sources.ts";

describeRabbitMQ("relays to RabbitMQ", (broker) => {
  const host = useVirtualHost(broker);
  describePostgres("from Postgres", (postgres) => {
    relayCases(rabbitMQHarness(broker, host), postgresSource(postgres));
  });
  describe("from SQLite", () => {
    relayCases(rabbitMQHarness(broker, host), sqliteSource);
  });
});
