import type { BrokerUrl } from "./broker-url.ts";
import { kafkaUrl } from "./kafka-url.ts";
import { memoryUrl } from "./memory-url.ts";
import { rabbitmqUrl } from "./rabbitmq-url.ts";
import { sqsUrl } from "./sqs-url.ts";

/** The brokers that a URL can lead to, by the names of their adapters. */
export const BROKERS: Readonly<Record<"memory" | "rabbitmq" | "kafka" | "sqs", BrokerUrl>> = {
  memory: memoryUrl,
  rabbitmq: rabbitmqUrl,
  kafka: kafkaUrl,
  sqs: sqsUrl,
};
