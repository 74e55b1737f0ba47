import { rabbitMQHarness } from "../../adapters/conformance/rabbitmq-harness.ts";
import { useVirtualHost } from "../../adapters/conformance/virtual-host.ts";
import { describeRabbitMQ } from "../../brokers/suite.ts";
import { idempotentConsumers } from "./consumers.ts";

describeRabbitMQ(
  "idempotent consumers on RabbitMQ",
  (broker) => {
    idempotentConsumers(rabbitMQHarness(broker, useVirtualHost(broker)));
  },
  { concurrent: true },
);
