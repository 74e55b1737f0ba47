import { SqsAdapter } from "./adapter.ts";
import type { SqsOptions } from "./options.ts";

export type { SqsAdapter, SqsClients } from "./adapter.ts";
export type { AwsCredentials, SqsOptions } from "./options.ts";

/**
 * Creates an adapter for SQS and SNS by the AWS SDK: `createBroker(sqs({ region: "eu-central-1" }))`. It connects when
 * the broker starts. Throws `invalid` for wrong options.
 */
export function sqs(options: SqsOptions = {}): SqsAdapter {
  return new SqsAdapter(options);
}
