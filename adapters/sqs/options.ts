import { isDate } from "node:util/types";
import { checkInteger, checkOptions, optionalText } from "../../core/checks.ts";
import { MessagingError } from "../../core/errors.ts";

/** What a header can hold, and the scope of a signature, which has `/` and `,` between its parts. */
const HEADER_TEXT = /^[\x21-\x7e]+$/;
const SCOPE_TEXT = /^[\x21-\x2b\x2d\x2e\x30-\x7e]+$/;

export const KEYS = "{ accessKeyId, secretAccessKey }";

/** What is wrong with credentials; undefined if nothing is. Quotes nothing of them. */
export function flawOf(value: unknown): string | undefined {
  const given = (value ?? {}) as Partial<Record<string, unknown>>;
  const { accessKeyId, secretAccessKey, sessionToken, expiration, credentialScope } = given;
  const isText = (one: unknown): one is string => typeof one === "string" && one !== "";
  if (!isText(accessKeyId) || !isText(secretAccessKey)) return "none";
  if (sessionToken !== undefined && !isText(sessionToken)) return "a sessionToken that is no text";
  if (!SCOPE_TEXT.test(accessKeyId))
    return "an accessKeyId with characters that no key has, as a space or a line break";
  if (isText(sessionToken) && !HEADER_TEXT.test(sessionToken)) {
    return "a sessionToken with characters that no token has, as a space or a line break";
  }
  if (credentialScope !== undefined && !(isText(credentialScope) && SCOPE_TEXT.test(credentialScope))) {
    return "a credentialScope that is none";
  }
  const isTime = isDate(expiration) && !Number.isNaN(expiration.getTime());
  return expiration === undefined || isTime ? undefined : "an expiration that is no valid Date";
}

/** Credentials for AWS, as the SDK takes them. */
export interface AwsCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** For credentials that expire. */
  readonly sessionToken?: string;
  /** When a function is asked for new ones. Never, without it. */
  readonly expiration?: Date;
}

/** How to reach SQS and SNS and what to ask of them. Everything has a default. */
export interface SqsOptions {
  /** As in `eu-central-1`. Default: from the AWS SDK's own chain (environment, shared configuration). */
  readonly region?: string;
  /**
   * The URL of SQS, for an emulator or a VPC endpoint. Default: `AWS_ENDPOINT_URL_SQS`, `AWS_ENDPOINT_URL`, the AWS SDK's
   * shared configuration, then AWS's own for the region.
   */
  readonly endpoint?: string;
  /**
   * The URL of SNS. Default: `AWS_ENDPOINT_URL_SNS`, `endpoint` if that is given, `AWS_ENDPOINT_URL`, the AWS SDK's shared
   * configuration, then AWS's own for the region.
   */
  readonly snsEndpoint?: string;
  /** Credentials, or a function that provides them within `requestTimeoutMs`. Default: the AWS SDK's own chain. */
  readonly credentials?: AwsCredentials | (() => Promise<AwsCredentials>);
  /** What the names of all queues and topics begin with, before a `_`: letters, digits, `-`. Default: nothing. */
  readonly namePrefix?: string;
  /**
   * Milliseconds, in whole seconds, for which a message is a consumer's until that is extended, which the engine does
   * while it holds the message. 1 s to 12 h. Default 30,000.
   */
  readonly visibilityTimeoutMs?: number;
  /**
   * Seconds that a poll waits for messages. Stopping a consumer waits for its polls, because a message that is handed to
   * an abandoned one is nobody's until its visibility timeout. 1 to 20. Default 5.
   */
  readonly waitSeconds?: number;
  /** The most polls of one consumer at once. Default 10. */
  readonly maxPolls?: number;
  /**
   * How often SQS itself hands out a message of a queue declared here before it moves it to the dead letters. A net under
   * the retry policy, for what kills a consumer before the policy can see it. 1 to 1,000. Default 100.
   */
  readonly maxReceives?: number;
  /** Seconds for which queues and dead letters declared here keep a message. 60 to 1,209,600. Default 1,209,600: 14 days. */
  readonly retentionSeconds?: number;
  /**
   * More attributes for the queues declared here, as in `{ KmsMasterKeyId: "alias/orders" }`. `DeduplicationScope` and
   * `FifoThroughputLimit` are given to FIFO queues only.
   */
  readonly queueAttributes?: Readonly<Record<string, string>>;
  /** More attributes for the topics declared here. */
  readonly topicAttributes?: Readonly<Record<string, string>>;
  /** Milliseconds that a connection may take to be made. Default 3,000. */
  readonly connectTimeoutMs?: number;
  /** Milliseconds that a request may take until all of its answer is there, beside what a poll waits. Default 10,000. */
  readonly requestTimeoutMs?: number;
}

/** The options, checked and with their defaults. */
export interface Settings {
  readonly region: string | undefined;
  readonly endpoint: string | undefined;
  readonly snsEndpoint: string | undefined;
  readonly credentials: SqsOptions["credentials"];
  readonly namePrefix: string;
  readonly leaseMs: number;
  readonly waitSeconds: number;
  readonly maxPolls: number;
  readonly maxReceives: number;
  readonly retentionSeconds: number;
  readonly queueAttributes: Readonly<Record<string, string>>;
  readonly topicAttributes: Readonly<Record<string, string>>;
  readonly connectTimeoutMs: number;
  readonly requestTimeoutMs: number;
}

const WHERE = "sqs()";
const OPTIONS = [
  "region",
  "endpoint",
  "snsEndpoint",
  "credentials",
  "namePrefix",
  "visibilityTimeoutMs",
  "waitSeconds",
  "maxPolls",
  "maxReceives",
  "retentionSeconds",
  "queueAttributes",
  "topicAttributes",
  "connectTimeoutMs",
  "requestTimeoutMs",
];
const OWN_QUEUE_ATTRIBUTES = [
  "FifoQueue",
  "ContentBasedDeduplication",
  "RedrivePolicy",
  "RedriveAllowPolicy",
  "Policy",
  "MessageRetentionPeriod",
  "VisibilityTimeout",
  "MaximumMessageSize",
  "DelaySeconds",
];
const OWN_TOPIC_ATTRIBUTES = ["FifoTopic", "ContentBasedDeduplication"];
const LONGEST_VISIBILITY_MS = 12 * 60 * 60 * 1_000;
const LONGEST_TIMEOUT_MS = 2 ** 31 - 1;

/** What is read of the environment, as the AWS SDK does. */
type Environment = Readonly<Record<string, string | undefined>>;

/** Checks the options and fills in what is missing. Throws `invalid`; the error never holds a credential. */
export function resolveOptions(options: SqsOptions, env: Environment = process.env): Settings {
  checkOptions(WHERE, options, OPTIONS);
  const { namePrefix = "" } = options;
  const settings: Settings = {
    region: optionalText(WHERE, "region", options.region),
    ...endpointsOf(options, env),
    credentials: checkCredentials(options.credentials),
    namePrefix,
    leaseMs: options.visibilityTimeoutMs ?? 30_000,
    waitSeconds: options.waitSeconds ?? 5,
    maxPolls: options.maxPolls ?? 10,
    maxReceives: options.maxReceives ?? 100,
    retentionSeconds: options.retentionSeconds ?? 1_209_600,
    queueAttributes: checkAttributes("queueAttributes", options.queueAttributes, OWN_QUEUE_ATTRIBUTES),
    topicAttributes: checkAttributes("topicAttributes", options.topicAttributes, OWN_TOPIC_ATTRIBUTES),
    connectTimeoutMs: options.connectTimeoutMs ?? 3_000,
    requestTimeoutMs: options.requestTimeoutMs ?? 10_000,
  };
  if (typeof namePrefix !== "string" || !/^[A-Za-z0-9-]*$/.test(namePrefix)) {
    throw invalid('takes letters, digits and "-" as namePrefix');
  }
  checkInteger(`${WHERE} { visibilityTimeoutMs }`, settings.leaseMs, 1_000, LONGEST_VISIBILITY_MS);
  if (settings.leaseMs % 1_000 !== 0) throw invalid("takes whole seconds as visibilityTimeoutMs");
  checkInteger(`${WHERE} { waitSeconds }`, settings.waitSeconds, 1, 20);
  checkInteger(`${WHERE} { maxPolls }`, settings.maxPolls, 1, 1_000);
  checkInteger(`${WHERE} { maxReceives }`, settings.maxReceives, 1, 1_000);
  checkInteger(`${WHERE} { retentionSeconds }`, settings.retentionSeconds, 60, 1_209_600);
  checkInteger(`${WHERE} { connectTimeoutMs }`, settings.connectTimeoutMs, 1, LONGEST_TIMEOUT_MS);
  checkInteger(`${WHERE} { requestTimeoutMs }`, settings.requestTimeoutMs, 1, LONGEST_TIMEOUT_MS);
  return settings;
}

/** Where SQS and SNS are. The environment's are read here too, so that SNS follows one rule, and a wrong one is named. */
function endpointsOf(
  { endpoint, snsEndpoint }: SqsOptions,
  env: Environment,
): Pick<Settings, "endpoint" | "snsEndpoint"> {
  const ignored = env.AWS_IGNORE_CONFIGURED_ENDPOINT_URLS === "true";
  const configured = (name: string): string | undefined =>
    ignored || env[name] === "" ? undefined : checkEndpoint(name, env[name]);
  const given = checkEndpoint("endpoint", endpoint);
  const everything = (): string | undefined => configured("AWS_ENDPOINT_URL");
  return {
    endpoint: given ?? configured("AWS_ENDPOINT_URL_SQS") ?? everything(),
    snsEndpoint:
      checkEndpoint("snsEndpoint", snsEndpoint) ?? configured("AWS_ENDPOINT_URL_SNS") ?? given ?? everything(),
  };
}

function checkCredentials(credentials: SqsOptions["credentials"]): SqsOptions["credentials"] {
  if (credentials === undefined || typeof credentials === "function") return credentials;
  // Of these the SDK asks no expiration.
  const flaw = flawOf({ ...(credentials as AwsCredentials), expiration: undefined });
  if (flaw === undefined) return credentials;
  throw invalid(
    `takes ${KEYS} as credentials, or a function that returns them${flaw === "none" ? "" : `; these have ${flaw}`}`,
  );
}

/** The error quotes nothing of the URL, because any part of a malformed one may hold a secret. */
function checkEndpoint(name: string, url: string | undefined): string | undefined {
  if (url === undefined) return undefined;
  const parts = typeof url === "string" && URL.canParse(url) ? new URL(url) : undefined;
  if (parts === undefined || !/^https?:$/.test(parts.protocol) || parts.username !== "" || parts.password !== "") {
    throw invalid(`takes a URL such as https://sqs.eu-central-1.amazonaws.com as ${name}, without credentials in it`);
  }
  return url;
}

function checkAttributes(
  name: string,
  given: Readonly<Record<string, string>> = {},
  own: readonly string[],
): Readonly<Record<string, string>> {
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    throw invalid(`takes an object of texts as ${name}, as in { KmsMasterKeyId: "alias/orders" }`);
  }
  for (const [attribute, value] of Object.entries(given)) {
    if (own.includes(attribute)) throw invalid(`sets the attribute ${attribute} itself; leave it out of ${name}`);
    if (typeof value !== "string") throw invalid(`takes texts as ${name}; ${attribute} is none`);
  }
  return { ...given };
}

function invalid(problem: string): MessagingError {
  return new MessagingError("invalid", `${WHERE} ${problem}`);
}
