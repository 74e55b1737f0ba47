import { type RabbitMQOptions, rabbitmq } from "../../../adapters/rabbitmq/index.ts";
import type { Adapter } from "../../../core/adapter.ts";
import { acksOnDelivery, confirmsBeforeStoring } from "./broken-adapters.ts";

const BREAKAGES = { acksOnDelivery, confirmsBeforeStoring };

export interface ProcessOptions {
  readonly rabbitmq: RabbitMQOptions;
  /** How it is broken, to see the suite notice. */
  readonly broken?: keyof typeof BREAKAGES;
}

/** How a worker process of the conformance suite makes its adapter. */
export function createAdapter(options: ProcessOptions): Adapter {
  const adapter = rabbitmq(options.rabbitmq);
  return options.broken === undefined ? adapter : BREAKAGES[options.broken](adapter);
}
