import { KafkaAdapter } from "./adapter.ts";
import type { KafkaOptions } from "./options.ts";

export type { KafkaAdapter } from "./adapter.ts";
export type { KafkaRecord } from "./message-codec.ts";
export type { KafkaCompression, KafkaOptions, KafkaSasl, KafkaTrim } from "./options.ts";

/**
 * The adapter for Kafka 3.1 or later, and 4.x, with the package `kafkajs`. Throws `invalid` for unknown or wrong
 * options. Connects only when the broker starts.
 *
 * @example createBroker(kafka({ brokers: ["kafka-1.example.com:9093"], ssl: true, sasl }))
 */
export function kafka(options: KafkaOptions): KafkaAdapter {
  return new KafkaAdapter(options);
}
