import { rabbitMQHarness } from "../../adapters/conformance/rabbitmq-harness.ts";
import { useVirtualHost } from "../../adapters/conformance/virtual-host.ts";
import { describeRabbitMQ } from "../../brokers/suite.ts";
import { sigkillSuite } from "./crashes/sigkill.ts";
import { deadLettersSuite } from "./suite.ts";

describeRabbitMQ("RabbitMQ", (broker) => {
  const harness = rabbitMQHarness(broker, useVirtualHost(broker));
  deadLettersSuite("RabbitMQ", () => harness);
  sigkillSuite("RabbitMQ", () => harness);
});
