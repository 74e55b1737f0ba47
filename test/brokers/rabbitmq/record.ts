import type { Guard } from "../guard.ts";
import type { NativeProcess } from "../native-process.ts";

/** All there is to know about a running RabbitMQ, as plain data that can be handed to another process. */
export type RabbitMQRecord = RabbitMQByUrl | RabbitMQInDocker | RabbitMQNative;

export interface RabbitMQByUrl {
  readonly how: "url";
  readonly url: string;
  readonly version: string;
}

export interface RabbitMQInDocker {
  readonly how: "docker";
  readonly url: string;
  readonly version: string;
  readonly managementUrl: string;
  readonly containerId: string;
}

export interface RabbitMQNative {
  readonly how: "native";
  readonly url: string;
  readonly version: string;
  readonly managementUrl: string;
  /** Erlang's name server, which the broker needs to start. */
  readonly epmd: NativeProcess;
  readonly server: NativeProcess;
  /** The path of `rabbitmqctl`; it takes the server's environment. */
  readonly rabbitmqctl: string;
}

/** A running RabbitMQ and what ends it, if it was started here. */
export interface StartedRabbitMQ {
  readonly record: RabbitMQRecord;
  readonly guard?: Guard;
}
