import { RabbitMQAdapter } from "./adapter.ts";
import type { RabbitMQOptions } from "./options.ts";

export type { RabbitMQAdapter } from "./adapter.ts";
export type { RabbitMQOptions, RabbitMQPassword, RabbitMQPasswordProvider } from "./options.ts";
export type { PolicyFindings } from "./policies.ts";
export type { RabbitMQConnections } from "./session.ts";
export type { Established } from "./verification.ts";

/**
 * Creates an adapter for RabbitMQ 3.10 or later, by AMQP 0-9-1 and the package `amqplib`. It connects when the broker
 * starts. Throws `invalid` for unknown or wrong options, and for a remote host without credentials.
 *
 * @example createBroker(rabbitmq({ url: "amqps://orders:secret@rabbit.example.com/shop" }))
 */
export function rabbitmq(options: RabbitMQOptions = {}): RabbitMQAdapter {
  return new RabbitMQAdapter(options);
}
