import { rabbitMQHarness } from "../../adapters/conformance/rabbitmq-harness.ts";
import { useVirtualHost } from "../../adapters/conformance/virtual-host.ts";
import { describePostgres, describeRabbitMQ } from "../../brokers/suite.ts";
import { inboxConsumers } from "./inbox-cases.ts";
import { onPostgres, onSqlite } from "./inbox-databases.ts";

describeRabbitMQ(
  "an inbox behind RabbitMQ",
  (broker) => {
    const harness = rabbitMQHarness(broker, useVirtualHost(broker));
    inboxConsumers(harness, onSqlite);
    describePostgres("with Postgres", (postgres) => inboxConsumers(harness, onPostgres(postgres)));
  },
  { concurrent: true },
);
