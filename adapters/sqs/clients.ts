import { SNSClient } from "@aws-sdk/client-sns";
import { SQSClient } from "@aws-sdk/client-sqs";
import type { Settings } from "./options.ts";

const SOCKETS = 100;

/** The SDK's clients of one adapter, each with sockets of its own, so that waiting polls hold up nobody. */
export interface Clients {
  /** For everything but polls. */
  readonly sqs: SQSClient;
  /** For long polls. */
  readonly polling: SQSClient;
  readonly sns: SNSClient;
}

export function makeClients(settings: Settings): Clients {
  const { region, endpoint, snsEndpoint, credentials, connectTimeoutMs, requestTimeoutMs, waitSeconds } = settings;
  const common = {
    ...(region === undefined ? {} : { region }),
    ...(credentials === undefined ? {} : { credentials }),
  };
  const handler = (sockets: number, waitMs: number) => ({
    connectionTimeout: connectTimeoutMs,
    requestTimeout: requestTimeoutMs + waitMs,
    throwOnRequestTimeout: true,
    httpAgent: { keepAlive: true, maxSockets: sockets },
    httpsAgent: { keepAlive: true, maxSockets: sockets },
  });
  const at = (url: string | undefined) => (url === undefined ? {} : { endpoint: url });
  return {
    sqs: new SQSClient({ ...common, ...at(endpoint), requestHandler: handler(SOCKETS, 0) }),
    polling: new SQSClient({
      ...common,
      ...at(endpoint),
      // A poll that failed is simply made again, by the receiver, which says so.
      maxAttempts: 1,
      requestHandler: handler(Number.POSITIVE_INFINITY, waitSeconds * 1_000),
    }),
    sns: new SNSClient({ ...common, ...at(snsEndpoint), requestHandler: handler(SOCKETS, 0) }),
  };
}

export function destroyClients({ sqs, polling, sns }: Clients): void {
  sqs.destroy();
  polling.destroy();
  sns.destroy();
}
