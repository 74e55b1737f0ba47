import { afterAll, describe, test } from "vitest";
import { conformance } from "../../../conformance/index.ts";
import { describeRabbitMQ } from "../../brokers/suite.ts";
import { rabbitMQHarness } from "./rabbitmq-harness.ts";
import { useVirtualHost } from "./virtual-host.ts";

describeRabbitMQ("RabbitMQ", (broker) => {
  conformance(
    rabbitMQHarness(broker, useVirtualHost(broker)),
    { describe: describe.concurrent, test, afterAll },
    "shared",
  );
});
