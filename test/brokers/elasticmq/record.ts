import type { Guard } from "../guard.ts";
import type { NativeProcess } from "../native-process.ts";

/** All there is to know about a running ElasticMQ, as plain data that can be handed to another process. */
export type ElasticMQRecord = ElasticMQByUrl | ElasticMQInDocker | ElasticMQNative;

interface ElasticMQByUrl {
  readonly how: "url";
  readonly url: string;
  readonly version: string;
  /** Not ours to know. */
  readonly durable: false;
}

export interface ElasticMQInDocker {
  readonly how: "docker";
  readonly url: string;
  readonly version: string;
  readonly durable: boolean;
  readonly containerId: string;
}

export interface ElasticMQNative {
  readonly how: "native";
  readonly url: string;
  readonly version: string;
  readonly durable: boolean;
  readonly server: NativeProcess;
}

/** A running ElasticMQ and what ends it, if it was started here. */
export interface StartedElasticMQ {
  readonly record: ElasticMQRecord;
  readonly guard?: Guard;
}
