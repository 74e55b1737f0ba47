import { afterAll } from "vitest";
import { useVirtualHost } from "../../adapters/conformance/virtual-host.ts";
import { describeKafka, describeRabbitMQ } from "../../brokers/suite.ts";
import { pairCase } from "./pair-cases.ts";
import { inMemory, onKafka, onRabbitMQ, pairOf } from "./places.ts";

describeKafka(
  "a migration with Kafka",
  (broker) => {
    const place = broker.newNamespace();
    afterAll(() => place.remove());
    const kafka = onKafka(broker);
    pairCase("memory to Kafka", pairOf(inMemory, kafka, place.namePrefix, "a"));
    pairCase("Kafka to memory", pairOf(kafka, inMemory, place.namePrefix, "b"));
    describeRabbitMQ("and RabbitMQ", (other) => {
      const rabbit = onRabbitMQ(useVirtualHost(other));
      pairCase("RabbitMQ to Kafka", pairOf(rabbit, kafka, place.namePrefix, "c"));
      pairCase("Kafka to RabbitMQ", pairOf(kafka, rabbit, place.namePrefix, "d"));
    });
  },
  { concurrent: true },
);
