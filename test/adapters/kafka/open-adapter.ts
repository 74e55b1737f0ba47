import { type KafkaOptions, type KafkaRecord, kafka } from "../../../adapters/kafka/index.ts";
import { keepingSink as keeping, opened } from "../opened.ts";

/** An adapter, opened, that writes down what it tells the engine. */
export const openAdapter = (options: KafkaOptions) =>
  opened(kafka({ reconnect: { firstMs: 20, maxMs: 500 }, sessionTimeoutMs: 6_000, ...options }));

/** A sink that keeps what it is given. */
export const keepingSink = () => keeping<KafkaRecord>();
