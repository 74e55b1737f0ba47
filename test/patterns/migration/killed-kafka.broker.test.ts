import { afterAll } from "vitest";
import { useVirtualHost } from "../../adapters/conformance/virtual-host.ts";
import { describeKafka, describeRabbitMQ } from "../../brokers/suite.ts";
import { killedCase } from "./killed/killed-case.ts";
import { processOnKafka, processOnRabbitMQ } from "./places.ts";

describeKafka(
  "a service of processes that moves with Kafka",
  (broker) => {
    const place = broker.newNamespace();
    afterAll(() => place.remove());
    const kafka = processOnKafka(broker);
    const prefix = (letter: string): string => `${place.namePrefix}${letter}.`;
    describeRabbitMQ("and RabbitMQ", (other) => {
      const rabbit = processOnRabbitMQ(useVirtualHost(other));
      killedCase("RabbitMQ to Kafka", { from: rabbit, to: kafka, namePrefix: prefix("k") });
      killedCase("Kafka to RabbitMQ", {
        from: kafka,
        to: rabbit,
        namePrefix: prefix("l"),
        state: () => ({ kind: "file" }),
      });
    });
  },
  { concurrent: true },
);
