import type { Adapter } from "anybroker";
import { type KafkaOptions, kafka } from "anybroker/kafka";
import { memory, memorySpace } from "anybroker/memory";
import { type RabbitMQOptions, rabbitmq } from "anybroker/rabbitmq";
import { type SqsOptions, sqs } from "anybroker/sqs";
import type { ProcessAdapter } from "../../../conformance/harness.ts";
import type { RunningFauxqs } from "../../brokers/fauxqs.ts";
import type { RunningKafka } from "../../brokers/kafka.ts";
import type { VirtualHost } from "../../brokers/rabbitmq.ts";
import type { Pair } from "./world.ts";

/** How adapters onto one place are made, for each process anew. */
export type Place = () => () => Adapter;

export const inMemory: Place = () => {
  const space = memorySpace();
  return () => memory({ space });
};

const SOON = { firstMs: 50, maxMs: 500 };

function rabbitMQOptions(host: () => VirtualHost): RabbitMQOptions {
  return { url: host().url, reconnect: SOON };
}

function kafkaOptions({ brokers }: RunningKafka): KafkaOptions {
  return { brokers, sessionTimeoutMs: 6_000, reconnect: SOON };
}

function sqsOptions({ url: endpoint, region, credentials }: RunningFauxqs): SqsOptions {
  return { endpoint, region, credentials, visibilityTimeoutMs: 20_000, waitSeconds: 1 };
}

export function onRabbitMQ(host: () => VirtualHost): Place {
  return () => () => rabbitmq(rabbitMQOptions(host));
}

export function onKafka(broker: RunningKafka): Place {
  return () => () => kafka(kafkaOptions(broker));
}

export function onSqs(broker: RunningFauxqs): Place {
  return () => () => sqs(sqsOptions(broker));
}

/** How another process makes its adapter onto one place. */
export type ProcessPlace = () => ProcessAdapter;

const program = (name: string): string =>
  new URL(`../../adapters/conformance/${name}-process.ts`, import.meta.url).href;

export function processOnRabbitMQ(host: () => VirtualHost): ProcessPlace {
  return () => ({ module: program("rabbitmq"), options: { rabbitmq: rabbitMQOptions(host) } });
}

export function processOnKafka(broker: RunningKafka): ProcessPlace {
  return () => ({ module: program("kafka"), options: { kafka: kafkaOptions(broker) } });
}

export function processOnSqs(broker: RunningFauxqs): ProcessPlace {
  return () => ({ module: program("sqs"), options: { sqs: sqsOptions(broker) } });
}

/** From one place to another. Short names: those of SQS have little room. */
export function pairOf(from: Place, to: Place, namePrefix: string, letter: string): () => Pair {
  return () => ({ from: from(), to: to(), prefix: `${namePrefix}${letter}.` });
}
