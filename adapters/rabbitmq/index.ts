import { RabbitMQAdapter } from "./adapter.ts";
import type { RabbitMQOptions } from "./options.ts";

export type { RabbitMQAdapter, RabbitMQConnections } from "./adapter.ts";
export type { RabbitMQOptions, RabbitMQPassword, RabbitMQPasswordProvider } from "./options.ts";
export type { PolicyFindings } from "./policies.ts";
export type { Established } from "./topology.ts";

/**
 * anybroker over RabbitMQ 3.10 or later, by AMQP 0-9-1 and the package `amqplib`. Throws `invalid` for options that are
 * unknown or wrong, and for a host other than this machine without credentials; connects only when the broker starts.
 *
 * @example createBroker(rabbitmq({ url: "amqps://orders:secret@rabbit.example.com/shop" }))
 */
export function rabbitmq(options: RabbitMQOptions = {}): RabbitMQAdapter {
  return new RabbitMQAdapter(options);
}
