import { rabbitMQHarness } from "../../adapters/conformance/rabbitmq-harness.ts";
import { useVirtualHost } from "../../adapters/conformance/virtual-host.ts";
import { describePostgres, describeRabbitMQ } from "../../brokers/suite.ts";
import { relayCases } from "./relay-cases.ts";

describePostgres("relays from Postgres", (postgres) => {
  describeRabbitMQ("to RabbitMQ", (broker) => {
    relayCases(rabbitMQHarness(broker, useVirtualHost(broker)), postgres);
  });
});
