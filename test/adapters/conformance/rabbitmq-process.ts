import { type RabbitMQOptions, rabbitmq } from "../../../adapters/rabbitmq/index.ts";
import type { Adapter } from "../../../core/index.ts";

/** How a worker process of the conformance suite makes its adapter. */
export function createAdapter(options: RabbitMQOptions): Adapter {
  return rabbitmq(options);
}
