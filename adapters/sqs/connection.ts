import type { Readable } from "node:stream";
import { SNSClient } from "@aws-sdk/client-sns";
import { SQSClient, type SQSClientConfig } from "@aws-sdk/client-sqs";
import { foundCredentials, providedCredentials } from "./credentials.ts";
import type { Settings } from "./options.ts";
import { hideInEntries, hideInError, OwnSecrets } from "./own-secrets.ts";
import { boundClockOffset, signedNow } from "./server-clock.ts";

/** What an answer is checked for. */
type Check = (output: Readonly<Record<string, unknown>>) => boolean;

const isText = (value: unknown): boolean => typeof value === "string" && value !== "";
const isTextIfAny = (value: unknown): boolean => value === undefined || typeof value === "string";
const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** A list of objects, if there is one; SDKs leave empty lists out. */
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
        [Attributes, MessageAttributes].every((each) => each === undefined || each === null || isObject(each)),
    ),
  ListTopicsCommand: ({ Topics, NextToken }) =>
    isListOf(Topics, ({ TopicArn }) => isTextIfAny(TopicArn)) && isTextIfAny(NextToken),
  ListSubscriptionsByTopicCommand: ({ Subscriptions, NextToken }) =>
    isListOf(Subscriptions, ({ SubscriptionArn }) => isTextIfAny(SubscriptionArn)) && isTextIfAny(NextToken),
  GetQueueUrlCommand: ({ QueueUrl }) => isText(QueueUrl),
  GetQueueAttributesCommand: ({ Attributes }) => Attributes === undefined || isObject(Attributes),
};

/** What answered is none of SQS or SNS. */
export class AnswerShapeError extends Error {
  override readonly name = "AnswerShapeError";
}

/** AWS answers a signature that it does not take with 400 or 403, by the age of the service; none of the names is for all. */
const DENIED = /signature|skew|expired|future|AuthFailure|AccessDenied|Forbidden/i;

/** Whether a refusal may be that of a signature. */
function isDenied(error: unknown): boolean {
  const { name, $metadata } = (error ?? {}) as {
    readonly name?: unknown;
    readonly $metadata?: { readonly httpStatusCode?: number };
  };
  const status = $metadata?.httpStatusCode;
  return status === 401 || status === 403 || (status === 400 && DENIED.test(String(name)));
}

/**
 * Has a client reject answers that are none of SQS or SNS though their status is 200, as what stands between may give: a
 * page that asks for a login is no confirmation. They count as no answer at all. What a refusal repeats of the own credentials
 * is taken out of it. What was refused for its signature is asked once more if the clock was wrong: nothing of it was done.
 */
function checkAnswers(client: Pick<SQSClient, "middlewareStack" | "config">, secrets: OwnSecrets): void {
  const { middlewareStack } = client;
  middlewareStack.add(
    (next, { commandName = "" }) =>
      async (parameters) => {
        const wasSkewed = signedNow(client);
        const result = await next(parameters)
          .catch((error: unknown) => {
            if (!isDenied(error) || !wasSkewed()) throw error;
            return next(parameters);
          })
          .catch((error: unknown) => {
            hideInError(error, secrets, parameters.input);
            throw error;
          });
        const output: unknown = result.output;
        const none = `what answered ${commandName} is no SQS or SNS`;
        if (!isObject(output) || !(CHECKS[commandName]?.(output) ?? true)) {
          throw new AnswerShapeError(`${none}: its answer has another shape`);
        }
        hideInEntries(output.Failed, secrets);
        const { MaxNumberOfMessages: most } = parameters.input as { readonly MaxNumberOfMessages?: number };
        const count = Array.isArray(output.Messages) ? output.Messages.length : 0;
        if (most === undefined || count <= most) return result;
        throw new AnswerShapeError(`${none}: it brought ${count} messages where ${most} were asked for`);
      },
    { step: "initialize", name: "anybrokerAnswers" },
  );
}

const MIB = 1024 * 1024;
/** Room for ten messages of 1 MiB of which every character is escaped in JSON. */
const MOST_RECEIVED_BYTES = 64 * MIB;
/** All else is short: the longest are a listing of 1,000 queues, and attributes with a policy. */
const MOST_BYTES = MIB;
/** The answer to a batch of events has some kilobytes. It is XML, which takes two seconds of each MiB to read. */
const MOST_PUBLISHED_BYTES = MIB / 4;
/** Ten messages have some hundred. Each costs memory and time that its few bytes do not tell. */
const MOST_VALUES = 20_000;
const LONGEST_TIMER_MS = 2 ** 31 - 1;

type Handle = SQSClient["config"]["requestHandler"]["handle"];
type Options = { readonly abortSignal?: AbortSignal };

/**
 * Gives every request of a client one deadline, from its start to the last byte of its answer, and its answer a size. The
 * SDK's own deadline ends with the head of an answer: half an answer would never end, and an endless one fill the memory. A
 * long one of very many values would keep the process from everything else while it is read.
 * A request that is over its deadline fails as a `TimeoutError`, and one whose answer is too long as an
 * {@link AnswerShapeError}; its connection is closed.
 */
function boundRequests(
  { config: { requestHandler } }: Pick<SQSClient, "config">,
  timeoutMs: number,
  mostBytes: number,
): void {
  const handle: Handle = requestHandler.handle.bind(requestHandler);
  const limitMs = Math.min(timeoutMs, LONGEST_TIMER_MS);
  requestHandler.handle = (request, options) =>
    bounded(handle, { timeoutMs: limitMs, mostBytes }, request, options as Options);
}

async function bounded(
  handle: Handle,
  { timeoutMs, mostBytes }: { readonly timeoutMs: number; readonly mostBytes: number },
  request: Parameters<Handle>[0],
  options: Options = {},
): ReturnType<Handle> {
  const { abortSignal: given } = options;
  const late = new AbortController();
  const abortSignal = given === undefined ? late.signal : AbortSignal.any([given, late.signal]);
  const { promise: over, reject: end } = Promise.withResolvers<never>();
  const timer = setTimeout(() => {
    // By this name the SDK tries again where it is to.
    end(named("TimeoutError", `no whole answer within ${timeoutMs} ms`));
    late.abort();
  }, timeoutMs);
  const aborted = (): void => end(named("AbortError", "the request was aborted"));
  given?.addEventListener("abort", aborted, { once: true });
  const answer = async (): ReturnType<Handle> => {
    const { response } = await handle(request, { ...options, abortSignal });
    response.body = await wholeBody(response.body as Readable, limitOf(request, response.statusCode, mostBytes));
    return { response };
  };
  try {
    return await Promise.race([answer(), over]);
  } finally {
    clearTimeout(timer);
    given?.removeEventListener("abort", aborted);
  }
}

/** What an answer may be at most. */
interface Limit {
  readonly bytes: number;
  readonly isXml: boolean;
}

/** A client of SQS names its action in a header, and is answered in JSON; one of SNS does neither. */
function limitOf({ headers }: Parameters<Handle>[0], status: number, mostBytes: number): Limit {
  const target = headers["x-amz-target"];
  const isReceived = status < 300 && target?.endsWith(".ReceiveMessage") === true;
  return { bytes: isReceived ? MOST_RECEIVED_BYTES : mostBytes, isXml: target === undefined };
}

function wholeBody(body: Readable, { bytes: most, isXml }: Limit): Promise<Uint8Array> {
  const parts: Buffer[] = [];
  let bytes = 0;
  return new Promise((resolve, reject) => {
    body.on("data", (part: Buffer) => {
      parts.push(part);
      bytes += part.length;
      if (bytes <= most) return;
      parts.length = 0;
      body.destroy(new AnswerShapeError(`what answered is no SQS or SNS: its answer has over ${most} bytes`));
    });
    body.on("error", reject);
    body.on("end", () => {
      const whole = parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts);
      if (whole.length <= MOST_VALUES || valuesOf(whole, isXml) <= MOST_VALUES) resolve(whole);
      else reject(new AnswerShapeError(`what answered is no SQS or SNS: its answer has over ${MOST_VALUES} values`));
    });
  });
}

const [QUOTE, BACKSLASH] = [0x22, 0x5c];
const COUNTED = new Uint8Array(256);
// Of JSON; and what begins a tag, a text or a reference in XML.
for (const character of "{[,:<&") COUNTED[character.charCodeAt(0)] = 1;

/** About how many values an answer has, counted outside texts of JSON, without reading it. Stops when there are too many. */
function valuesOf(answer: Buffer, isXml: boolean): number {
  let values = 0;
  for (let at = 0; at < answer.length && values <= MOST_VALUES; at++) {
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
  const secrets = new OwnSecrets();
  const learn = secrets.learn.bind(secrets);
  const control = new SQSClient({
    ...make(providedCredentials(settings.credentials, requestTimeoutMs, learn), handler(SOCKETS), false),
    ...at(endpoint),
  });
  if (settings.credentials === undefined) {
    control.config.credentials = foundCredentials(control.config.credentials, requestTimeoutMs, learn);
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
    const mostBytes = client === clients.sns ? MOST_PUBLISHED_BYTES : MOST_BYTES;
    const waitMs = client === clients.polling ? waitSeconds * 1_000 : 0;
    // Of both services, whose types of requests differ.
    checkAnswers(client as Pick<SQSClient, "middlewareStack" | "config">, secrets);
    boundRequests(client as Pick<SQSClient, "config">, requestTimeoutMs + waitMs, mostBytes);
    boundClockOffset(client as Pick<SQSClient, "config">);
  }
  return clients;
}

export function destroyClients({ sqs, sns, polling, control }: Clients): void {
  for (const client of [sqs, sns, polling, control.sqs, control.sns]) client.destroy();
}
