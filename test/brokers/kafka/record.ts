import type { Guard } from "../guard.ts";
import type { NativeProcess } from "../native-process.ts";

/** All there is to know about a running Kafka, as plain data that can be handed to another process. */
export type KafkaRecord = KafkaByUrl | KafkaInDocker | KafkaNative;

interface KafkaByUrl {
  readonly how: "url";
  /** Where to connect first, each as `host:port`. */
  readonly brokers: readonly string[];
  readonly version: string;
}

export interface KafkaInDocker {
  readonly how: "docker";
  readonly brokers: readonly string[];
  readonly version: string;
  readonly linked: LinkedListener;
  readonly containerId: string;
}

export interface KafkaNative {
  readonly how: "native";
  readonly brokers: readonly string[];
  readonly version: string;
  readonly linked: LinkedListener;
  readonly server: NativeProcess;
}

/**
 * A listener that tells its clients to come to another port than its own. Kafka's clients connect where the server says
 * it is: so this one says that it is where a proxy may be put.
 */
interface LinkedListener {
  readonly host: string;
  /** Where it listens. */
  readonly port: number;
  /** Where it says that it is. */
  readonly advertisedPort: number;
}

/** A running Kafka and what ends it, if it was started here. */
export interface StartedKafka {
  readonly record: KafkaRecord;
  readonly guard?: Guard;
}
