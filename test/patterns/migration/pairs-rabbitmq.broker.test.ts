import { useVirtualHost } from "../../adapters/conformance/virtual-host.ts";
import { describeRabbitMQ } from "../../brokers/suite.ts";
import { pairCase } from "./pair-cases.ts";
import { inMemory, onRabbitMQ, pairOf } from "./places.ts";

describeRabbitMQ(
  "a migration between memory and RabbitMQ",
  (broker) => {
    const rabbit = onRabbitMQ(useVirtualHost(broker));
    pairCase("memory to RabbitMQ", pairOf(inMemory, rabbit, "", "a"));
    pairCase("RabbitMQ to memory", pairOf(rabbit, inMemory, "", "b"));
  },
  { concurrent: true },
);
