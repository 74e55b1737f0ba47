import type { RunningFauxqs } from "../brokers/fauxqs.ts";

/** The environment that brings an example to the emulator of SQS and SNS. */
export function fauxqsEnvironment(broker: RunningFauxqs): Readonly<Record<string, string>> {
  return {
    BROKER_URL: `sqs://${broker.region}?endpoint=${encodeURIComponent(broker.url)}`,
    AWS_ACCESS_KEY_ID: broker.credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: broker.credentials.secretAccessKey,
  };
}
