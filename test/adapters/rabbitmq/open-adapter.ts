import type { ConsumeMessage } from "amqplib";
import { type RabbitMQOptions, rabbitmq } from "../../../adapters/rabbitmq/index.ts";
import { keepingSink as keeping, opened } from "../opened.ts";

/** An adapter, opened, that writes down what it tells the engine. */
export const openAdapter = (options: RabbitMQOptions) =>
  opened(rabbitmq({ reconnect: { firstMs: 20, maxMs: 500 }, ...options }));

/** A sink that keeps what it is given. */
export const keepingSink = () => keeping<ConsumeMessage>();
