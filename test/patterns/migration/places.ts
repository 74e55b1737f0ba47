import type { Adapter } from "anybroker";
import { kafka } from "anybroker/kafka";
import { memory, memorySpace } from "anybroker/memory";
import { rabbitmq } from "anybroker/rabbitmq";
import { sqs } from "anybroker/sqs";
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

export function onRabbitMQ(host: () => VirtualHost): Place {
  return () => () => rabbitmq({ url: host().url, reconnect: { firstMs: 50, maxMs: 500 } });
}

export function onKafka(broker: RunningKafka): Place {
  return () => () =>
    kafka({ brokers: broker.brokers, sessionTimeoutMs: 6_000, reconnect: { firstMs: 50, maxMs: 500 } });
}

export function onSqs(broker: RunningFauxqs): Place {
  const { url: endpoint, region, credentials } = broker;
  return () => () => sqs({ endpoint, region, credentials, visibilityTimeoutMs: 5_000, waitSeconds: 1 });
}

/** From one place to another. Short names: those of SQS have little room. */
export function pairOf(from: Place, to: Place, namePrefix: string, letter: string): () => Pair {
  return () => ({ from: from(), to: to(), prefix: `${namePrefix}${letter}.` });
}
