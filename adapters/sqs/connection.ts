import type { Readable } from "node:stream";
import { SNSClient } from "@aws-sdk/client-sns";
import { SQSClient, type SQSClientConfig } from "@aws-sdk/client-sqs";
import { chainCredentials, hideInEntries, hideInError, OwnSecrets, providedCredentials } from "./credentials.ts";
import type { Settings } from "./options.ts";

/** A check of an answer's shape. */
type Check = (output: Readonly<Record<string, unknown>>) => boolean;

const isText = (value: unknown): boolean => typeof value === "string" && value !== "";
const isTextIfAny = (value: unknown): boolean => value === undefined || typeof value === "string";
const isNoObject = (value: unknown): boolean => typeof value !== "object" || value === null;
const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** A list of objects, or none: SDKs omit empty lists. */
function isListOf(list: unknown, isEntry: Check): boolean {
  return (
    list === undefined ||
    list === null ||
    (Array.isArray(list) && list.every((each) => isObject(each) && isEntry(each)))
  );
}

const isBatch: Check = ({ Successful, Failed }) =>
  isListOf(Successful, ({ Id }) => isText(Id)) &&
  isListOf(Failed, ({ Id, Code, Message }) => isText(Id) && isTextIfAny(Code) && isTextIfAny(Message));

const CHECKS: Readonly<Record<string, Check>> = {
  SendMessageCommand: ({ MessageId }) => isText(MessageId),
  SendMessageBatchCommand: isBatch,
  PublishBatchCommand: isBatch,
  DeleteMessageBatchCommand: isBatch,
  ChangeMessageVisibilityBatchCommand: isBatch,
  ReceiveMessageCommand: ({ Messages }) =>
    isListOf(
      Messages,
      ({ MessageId, ReceiptHandle, Body, Attributes, MessageAttributes }) =>
        isText(ReceiptHandle) &&
        isTextIfAny(MessageId) &&
        isTextIfAny(Body) &&
        [Attributes, MessageAttributes].every((each) => each === undefined || each === null || isObject(each)) &&
        // Not so in attributes of the sender, which are read one by one.
        Object.values(Attributes ?? {}).every(isNoObject),
    ),
  ListTopicsCommand: ({ Topics, NextToken }) =>
    isListOf(Topics, ({ TopicArn }) => isTextIfAny(TopicArn)) && isTextIfAny(NextToken),
  ListSubscriptionsByTopicCommand: ({ Subscriptions, NextToken }) =>
    isListOf(Subscriptions, ({ SubscriptionArn }) => isTextIfAny(SubscriptionArn)) && isTextIfAny(NextToken),
  ListQueuesCommand: ({ QueueUrls, NextToken }) =>
    (QueueUrls === undefined || QueueUrls === null || (Array.isArray(QueueUrls) && QueueUrls.every(isText))) &&
    isTextIfAny(NextToken),
  CreateQueueCommand: ({ QueueUrl }) => isText(QueueUrl),
  CreateTopicCommand: ({ TopicArn }) => isText(TopicArn),
  GetQueueUrlCommand: ({ QueueUrl }) => isText(QueueUrl),
  GetQueueAttributesCommand: ({ Attributes = {} }) =>
    isObject(Attributes) && Object.values(Attributes).every(isTextIfAny),
};

/** The answer is not from SQS or SNS. */
export class AnswerShapeError extends Error {
  override readonly name = "AnswerShapeError";
}

/** AWS refuses a signature with status 400 or 403 and various codes, depending on the service. */
const DENIED = /signature|skew|expired|future|AuthFailure|AccessDenied|Forbidden/i;

/** Whether a refusal may concern the signature. */
function isDenied(error: unknown): boolean {
  const { name, $metadata } = (error ?? {}) as {
    readonly name?: unknown;
    readonly $metadata?: { readonly httpStatusCode?: number };
  };
  const status = $metadata?.httpStatusCode;
  return status === 401 || status === 403 || (status === 400 && DENIED.test(String(name)));
}

/**
 * Lets a client check its answers:
 * - An answer with status 200 that is not from SQS or SNS is rejected, such as the login page of a proxy. It counts as
 *   no answer.
 * - A refusal in any form becomes an error that can be read, without the credentials that it may repeat.
 * - A request that was refused for its signature is sent once more if the clock was wrong: nothing of it was done.
 */
function checkAnswers(client: Pick<SQSClient, "middlewareStack" | "config">, secrets: OwnSecrets): void {
  const { middlewareStack } = client;
  // The first to see the error that the SDK makes of an answer: everything else, also in the SDK, may read it.
  middlewareStack.add(
    (next) => (parameters) =>
      next(parameters).catch((error: unknown) => {
        hideInError(error, secrets, parameters.input);
        throw error;
      }),
    { step: "deserialize", priority: "high", name: "anybrokerErrors" },
  );
  middlewareStack.add(
    (next, { commandName = "" }) =>
      async (parameters) => {
        const wasSkewed = signedNow(client);
        const result = await next(parameters).catch((error: unknown) => {
          if (!isDenied(error) || !wasSkewed()) throw error;
          return next(parameters);
        });
        const output: unknown = result.output;
        const wrong = `the answer to ${commandName} is not from SQS or SNS`;
        if (!isObject(output) || !(CHECKS[commandName]?.(output) ?? true)) {
          throw new AnswerShapeError(`${wrong}: it has another shape`);
        }
        hideInEntries(output.Failed, secrets);
        const { MaxNumberOfMessages: max } = parameters.input as { readonly MaxNumberOfMessages?: number };
        const count = Array.isArray(output.Messages) ? output.Messages.length : 0;
        if (max === undefined || count <= max) return result;
        throw new AnswerShapeError(`${wrong}: it has ${count} messages, and at most ${max} were requested`);
      },
    { step: "initialize", name: "anybrokerAnswers" },
  );
}

const MIB = 1024 * 1024;
/** Enough for ten messages of 1 MiB with every character escaped in JSON. */
const MAX_RECEIVED_BYTES = 64 * MIB;
/** Other answers are short: the longest are a list of 1,000 queues, and attributes with a policy. */
const MAX_BYTES = MIB;
/** The answer to a batch of events has some kilobytes. It is XML, whose parser takes two seconds per MiB. */
const MAX_PUBLISHED_BYTES = MIB / 4;
/** Ten messages have some hundred values. Each value costs memory and time, however short it is. */
const MAX_VALUES = 20_000;

type Handle = SQSClient["config"]["requestHandler"]["handle"];
type Options = { readonly abortSignal?: AbortSignal };

/**
 * Gives each request a deadline, from its start to the last byte of its answer, and limits the answer. The SDK's
 * deadline ends with the head of an answer: half an answer would never end, an endless one would fill the memory, and
 * one with very many values would block the event loop. A late request fails as `TimeoutError`, a too long answer as
 * {@link AnswerShapeError}; the connection is closed.
 */
function boundRequests(
  { config: { requestHandler } }: Pick<SQSClient, "config">,
  timeoutMs: number,
  maxBytes: number,
): void {
  const handle: Handle = requestHandler.handle.bind(requestHandler);
  requestHandler.handle = (request, options) => bounded(handle, { timeoutMs, maxBytes }, request, options as Options);
}

async function bounded(
  handle: Handle,
  { timeoutMs, maxBytes }: { readonly timeoutMs: number; readonly maxBytes: number },
  request: Parameters<Handle>[0],
  options: Options = {},
): ReturnType<Handle> {
  const { abortSignal: callerSignal } = options;
  const late = new AbortController();
  const abortSignal = callerSignal === undefined ? late.signal : AbortSignal.any([callerSignal, late.signal]);
  const { promise: over, reject: end } = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    // The SDK retries errors with this name if the client may.
    end(named("TimeoutError", `no complete answer within ${timeoutMs} ms`));
    late.abort();
  }, timeoutMs);
  const aborted = (): void => end(named("AbortError", "the request was aborted"));
  callerSignal?.addEventListener("abort", aborted, { once: true });
  const answer = async (): ReturnType<Handle> => {
    const { response } = await handle(request, { ...options, abortSignal });
    response.body = await wholeBody(response.body as Readable, limitOf(request, response.statusCode, maxBytes));
    return { response };
  };
  try {
    return await Promise.race([answer(), over]);
  } finally {
    clearTimeout(timer);
    callerSignal?.removeEventListener("abort", aborted);
  }
}

/** The limits of an answer. */
interface Limit {
  readonly bytes: number;
  readonly isXml: boolean;
}

/** SQS clients name the action in a header and get JSON; SNS clients do neither. */
function limitOf({ headers }: Parameters<Handle>[0], status: number, maxBytes: number): Limit {
  const target = headers["x-amz-target"];
  const isReceived = status < 300 && target?.endsWith(".ReceiveMessage") === true;
  return { bytes: isReceived ? MAX_RECEIVED_BYTES : maxBytes, isXml: target === undefined };
}

function wholeBody(body: Readable, { bytes: max, isXml }: Limit): Promise<Uint8Array> {
  const parts: Buffer[] = [];
  let bytes = 0;
  return new Promise((resolve, reject) => {
    body.on("data", (part: Buffer) => {
      parts.push(part);
      bytes += part.length;
      if (bytes <= max) return;
      parts.length = 0;
      body.destroy(new AnswerShapeError(`the answer is not from SQS or SNS: it has more than ${max} bytes`));
    });
    body.on("error", reject);
    body.on("end", () => {
      const whole = parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts);
      if (whole.length <= MAX_VALUES || valuesOf(whole, isXml) <= MAX_VALUES) resolve(whole);
      else reject(new AnswerShapeError(`the answer is not from SQS or SNS: it has more than ${MAX_VALUES} values`));
    });
  });
}

const [QUOTE, BACKSLASH] = [0x22, 0x5c];
const COUNTED = new Uint8Array(256);
// Characters that begin values in JSON, and tags, texts or references in XML.
for (const character of "{[,:<&") COUNTED[character.charCodeAt(0)] = 1;

/** Approximately counts the values of an answer without parsing it, outside JSON strings. Stops above the limit. */
function valuesOf(answer: Buffer, isXml: boolean): number {
  let values = 0;
  for (let at = 0; at < answer.length && values <= MAX_VALUES; at++) {
    const byte = answer[at] ?? 0;
    if (byte === QUOTE && !isXml) {
      at++;
      while (at < answer.length && answer[at] !== QUOTE) at += answer[at] === BACKSLASH ? 2 : 1;
    } else values += COUNTED[byte] ?? 0;
  }
  return values;
}

function named(name: string, message: string): Error {
  return Object.assign(new Error(message), { name });
}

const SOCKETS = 100;

/** The SDK's clients of one adapter. */
export interface Clients {
  /**
   * For sending and settling. They try once, because the engine retries in order and reports it. They cache the
   * middleware of commands, and have no logging middleware, because no logger is configured.
   */
  readonly sqs: SQSClient;
  readonly sns: SNSClient;
  /** For long polls, with separate sockets, so that waiting polls delay no other request. */
  readonly polling: SQSClient;
  /** For everything else. They retry as the SDK does by default. */
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
    // The configured endpoint is right. The host in the queue URL of an emulator or a proxy may be wrong.
    useQueueUrlAsEndpoint: false as const,
    // TLS protects the data, and a signature contains a hash of the request. MD5 takes several times as long as that
    // hash, some milliseconds for 1 MiB, and does not exist in FIPS mode.
    md5: false as const,
    requestHandler,
  });
  const at = (url: string | undefined) => (url === undefined ? {} : { endpoint: url });
  const secrets = new OwnSecrets();
  const learn = secrets.learn.bind(secrets);
  const control = new SQSClient({
    ...make(providedCredentials(settings.credentials, requestTimeoutMs, learn), handler(SOCKETS), false),
    ...at(endpoint),
  });
  if (settings.credentials === undefined) {
    control.config.credentials = chainCredentials(control.config.credentials, requestTimeoutMs, learn);
  }
  // All clients share the credentials that the first one finds and renews.
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
    const maxBytes = client === clients.sns ? MAX_PUBLISHED_BYTES : MAX_BYTES;
    const waitMs = client === clients.polling ? waitSeconds * 1_000 : 0;
    // The request types of the two services differ.
    checkAnswers(client as Pick<SQSClient, "middlewareStack" | "config">, secrets);
    boundRequests(client as Pick<SQSClient, "config">, requestTimeoutMs + waitMs, maxBytes);
    boundClockOffset(client as Pick<SQSClient, "config">);
  }
  return clients;
}

export function destroyClients({ sqs, sns, polling, control }: Clients): void {
  for (const client of [sqs, sns, polling, control.sqs, control.sns]) client.destroy();
}

/** Plausible times of a server. The time of a signature has a year of four digits. */
const EARLIEST_MS = Date.UTC(2000);
const LATEST_MS = Date.UTC(2200);

/**
 * Keeps the clock offset of the SDK plausible. The SDK takes it from the `Date` header of every answer, and from the
 * time in a refusal. A wild offset makes all later signatures fail, and then no answer can correct it.
 */
function boundClockOffset({ config }: { readonly config: SQSClient["config"] }): void {
  let offset = 0;
  const isCredible = (one: number): boolean => {
    const now = Date.now() + one;
    return now >= EARLIEST_MS && now < LATEST_MS;
  };
  const bounded = (one: unknown): number => (typeof one === "number" && isCredible(one) ? one : 0);
  offset = bounded(config.systemClockOffset);
  Object.defineProperty(config, "systemClockOffset", {
    configurable: true,
    enumerable: true,
    // Checked again at each read, because this machine's clock may have been set.
    get: () => bounded(offset),
    set: (given: unknown) => {
      offset = bounded(given);
    },
  });
}

/** AWS refuses no signature for a smaller difference. */
const SKEW_MS = 60_000;

/**
 * Notes the server's time of a request that is signed now. The returned function tells whether that time was wrong, by
 * the clock offset known since. After a sleep of the machine, its clock and signatures from before are wrong.
 */
function signedNow({ config }: { readonly config: SQSClient["config"] }): () => boolean {
  const serverTime = (): number => Date.now() + (config.systemClockOffset ?? 0);
  const signedAt = serverTime();
  return () => Math.abs(serverTime() - signedAt) >= SKEW_MS;
}
