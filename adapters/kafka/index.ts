import { KafkaAdapter } from "./adapter.ts";
import type { KafkaOptions } from "./options.ts";

export type { KafkaAdapter } from "./adapter.ts";
export type { KafkaRecord } from "./message-codec.ts";
export type { KafkaCompression, KafkaOptions, KafkaSasl, KafkaTrim } from "./options.ts";

/**
 * anybroker over Kafka 3.1 or later, or 4.x, by the package `kafkajs`. Throws `invalid` for options that are unknown or wrong;
 * connects only when the broker starts.
 *
 * @example createBroker(kafka({ brokers: ["kafka-1.example.com:9093"], ssl: true, sasl }))
 */
export function kafka(options: KafkaOptions): KafkaAdapter {
  return new KafkaAdapter(options);
}
