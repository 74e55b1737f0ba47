import type { RunningFauxqs } from "../brokers/fauxqs.ts";

/** The environment that brings an example to the emulator of SQS and SNS. */
export function fauxqsEnvironment({ region, url, credentials }: RunningFauxqs): Readonly<Record<string, string>> {
  const login = [credentials.accessKeyId, credentials.secretAccessKey].map(encodeURIComponent).join(":");
  return { BROKER_URL: `sqs://${login}@${region}?endpoint=${encodeURIComponent(url)}` };
}
