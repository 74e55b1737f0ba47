import { type SqsOptions, sqs } from "../../../adapters/sqs/index.ts";
import type { Adapter } from "../../../core/adapter.ts";

export interface ProcessOptions {
  readonly sqs: SqsOptions;
}

/** How a worker process of the conformance suite makes its adapter. */
export function createAdapter(options: ProcessOptions): Adapter {
  return sqs(options.sqs);
}
