import { SNSClient } from "@aws-sdk/client-sns";
import { SQSClient, type SQSClientConfig } from "@aws-sdk/client-sqs";
import { checkAnswers } from "./answers.ts";
import { boundRequests } from "./bounded-requests.ts";
import { foundCredentials, providedCredentials } from "./credentials.ts";
import type { Settings } from "./options.ts";

const SOCKETS = 100;

/** The SDK's clients of one adapter. */
export interface Clients {
  /**
   * For what carries and settles messages. They try once: the engine tries again, in order, and says so meanwhile. They
   * keep the middleware of a command once it was sent, and have none for a log, which nobody is given.
   */
  readonly sqs: SQSClient;
  readonly sns: SNSClient;
  /** For long polls, with sockets of its own, so that those that wait hold up nobody. */
  readonly polling: SQSClient;
  /** For everything else. They try again as the SDK does of itself. */
  readonly control: { readonly sqs: SQSClient; readonly sns: SNSClient };
}

export function makeClients(settings: Settings): Clients {
  const { region, endpoint, snsEndpoint, connectTimeoutMs, requestTimeoutMs, waitSeconds } = settings;
  const handler = (sockets: number) => ({
    connectionTimeout: connectTimeoutMs,
    httpAgent: { keepAlive: true, maxSockets: sockets },
    httpsAgent: { keepAlive: true, maxSockets: sockets },
  });
  const make = (
    credentials: SQSClientConfig["credentials"],
    requestHandler: ReturnType<typeof handler>,
    once: boolean,
  ) => ({
    ...(region === undefined ? {} : { region }),
    ...(credentials === undefined ? {} : { credentials }),
    ...(once ? { maxAttempts: 1, cacheMiddleware: true } : {}),
    // Where it resolves, the endpoint is right: of the options, the environment or the region. What an emulator or a proxy
    // believes to be called is not.
    useQueueUrlAsEndpoint: false as const,
    // TLS sees to it that what arrives is what was sent, and a signature holds a hash of the request. MD5 takes several
    // times as long as that hash, some milliseconds for 1 MiB, and a process that keeps to FIPS has none at all.
    md5: false as const,
    requestHandler,
  });
  const at = (url: string | undefined) => (url === undefined ? {} : { endpoint: url });
  const control = new SQSClient({
    ...make(providedCredentials(settings.credentials, requestTimeoutMs), handler(SOCKETS), false),
    ...at(endpoint),
  });
  if (settings.credentials === undefined) {
    control.config.credentials = foundCredentials(control.config.credentials, requestTimeoutMs);
  }
  // What the first one found, kept and renewed there, is good for all of them.
  const { credentials } = control.config;
  const clients: Clients = {
    sqs: new SQSClient({ ...make(credentials, handler(SOCKETS), true), ...at(endpoint) }),
    sns: new SNSClient({ ...make(credentials, handler(SOCKETS), true), ...at(snsEndpoint) }),
    polling: new SQSClient({
      ...make(credentials, handler(Number.POSITIVE_INFINITY), true),
      ...at(endpoint),
    }),
    control: {
      sqs: control,
      sns: new SNSClient({ ...make(credentials, handler(SOCKETS), false), ...at(snsEndpoint) }),
    },
  };
  for (const { middlewareStack } of [clients.sqs, clients.sns, clients.polling])
    middlewareStack.remove("loggerMiddleware");
  for (const client of [clients.sqs, clients.sns, clients.polling, clients.control.sqs, clients.control.sns]) {
    const waitMs = client === clients.polling ? waitSeconds * 1_000 : 0;
    // Of both services, whose types of requests differ.
    checkAnswers(client as Pick<SQSClient, "middlewareStack">);
    boundRequests(client as Pick<SQSClient, "config">, requestTimeoutMs + waitMs);
  }
  return clients;
}

export function destroyClients({ sqs, sns, polling, control }: Clients): void {
  for (const client of [sqs, sns, polling, control.sqs, control.sns]) client.destroy();
}
