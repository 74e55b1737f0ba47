import { afterAll } from "vitest";
import { useVirtualHost } from "../../adapters/conformance/virtual-host.ts";
import { describeFauxqs, describeKafka, describeRabbitMQ } from "../../brokers/suite.ts";
import { pairCase } from "./pair-cases.ts";
import { inMemory, onKafka, onRabbitMQ, onSqs, pairOf } from "./places.ts";

describeFauxqs(
  "a migration with SQS",
  (broker) => {
    const place = broker.newNamespace();
    afterAll(() => place.remove());
    const sqs = onSqs(broker);
    pairCase("memory to SQS", pairOf(inMemory, sqs, place.namePrefix, "a"));
    pairCase("SQS to memory", pairOf(sqs, inMemory, place.namePrefix, "b"));
    describeRabbitMQ("and RabbitMQ", (other) => {
      const rabbit = onRabbitMQ(useVirtualHost(other));
      pairCase("RabbitMQ to SQS", pairOf(rabbit, sqs, place.namePrefix, "c"));
      pairCase("SQS to RabbitMQ", pairOf(sqs, rabbit, place.namePrefix, "d"));
    });
    describeKafka("and Kafka", (other) => {
      const theirs = other.newNamespace();
      afterAll(() => theirs.remove());
      const kafka = onKafka(other);
      pairCase("Kafka to SQS", pairOf(kafka, sqs, theirs.namePrefix, "e"));
      pairCase("SQS to Kafka", pairOf(sqs, kafka, theirs.namePrefix, "f"));
    });
  },
  { concurrent: true },
);
