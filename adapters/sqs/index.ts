import { SqsAdapter } from "./adapter.ts";
import type { SqsOptions } from "./options.ts";

export type { SqsAdapter, SqsClients } from "./adapter.ts";
export type { AwsCredentials, SqsOptions } from "./options.ts";

/**
 * SQS and SNS by the AWS SDK: `createBroker(sqs({ region: "eu-central-1" }))`. Nothing is connected before the broker
 * starts. Throws `invalid` for wrong options.
 */
export function sqs(options: SqsOptions = {}): SqsAdapter {
  return new SqsAdapter(options);
}
