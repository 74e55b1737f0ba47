import { type KafkaOptions, kafka } from "../../../adapters/kafka/index.ts";
import type { Adapter } from "../../../core/adapter.ts";

export interface ProcessOptions {
  readonly kafka: KafkaOptions;
}

/** How a worker process of the conformance suite makes its adapter. */
export function createAdapter(options: ProcessOptions): Adapter {
  return kafka(options.kafka);
}
