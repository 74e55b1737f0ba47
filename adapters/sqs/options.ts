import { isDate } from "node:util/types";
import { checkInteger, checkOptions, optionalText } from "../../core/checks.ts";
import { MessagingError } from "../../core/errors.ts";

/** The characters of a header, and of the scope of a signature, which separates its parts by `/` and `,`. */
const HEADER_TEXT = /^[\x21-\x7e]+$/;
const SCOPE_TEXT = /^[\x21-\x2b\x2d\x2e\x30-\x7e]+$/;

export const KEYS = "{ accessKeyId, secretAccessKey }";

/** Describes a fault of credentials; undefined if there is none. Quotes nothing of them. */
export function flawOf(value: unknown): string | undefined {
  const given = (value ?? {}) as Partial<Record<string, unknown>>;
  const { accessKeyId, secretAccessKey, sessionToken, expiration, credentialScope } = given;
  const isText = (one: unknown): one is string => typeof one === "string" && one !== "";
  if (!isText(accessKeyId) || !isText(secretAccessKey)) return "none";
  if (sessionToken !== undefined && !isText(sessionToken)) return "a sessionToken that is no string";
  if (!SCOPE_TEXT.test(accessKeyId)) return "an accessKeyId with invalid characters, such as a space or a line break";
  if (isText(sessionToken) && !HEADER_TEXT.test(sessionToken)) {
    return "a sessionToken with invalid characters, such as a space or a line break";
  }
  if (credentialScope !== undefined && !(isText(credentialScope) && SCOPE_TEXT.test(credentialScope))) {
    return "an invalid credentialScope";
  }
  const isTime = isDate(expiration) && !Number.isNaN(expiration.getTime());
  return expiration === undefined || isTime ? undefined : "an expiration that is no valid Date";
}

/** AWS credentials, as the SDK takes them. */
export interface AwsCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  /** For temporary credentials. */
  readonly sessionToken?: string;
  /** When the function is called again. Default: never. */
  readonly expiration?: Date;
}

/** The options of {@link sqs}. All have defaults. */
export interface SqsOptions {
  /** Such as `eu-central-1`. Default: by the AWS SDK (environment, shared configuration). */
  readonly region?: string;
  /**
   * The URL of SQS, for an emulator or a VPC endpoint. Default: `AWS_ENDPOINT_URL_SQS`, `AWS_ENDPOINT_URL`, the AWS
   * SDK's shared configuration, then AWS's URL for the region.
   */
  readonly endpoint?: string;
  /**
   * The URL of SNS. Default: `AWS_ENDPOINT_URL_SNS`, `endpoint` if given, `AWS_ENDPOINT_URL`, the AWS SDK's shared
   * configuration, then AWS's URL for the region.
   */
  readonly snsEndpoint?: string;
  /** Credentials, or a function that returns them within `requestTimeoutMs`. Default: the SDK's credential chain. */
  readonly credentials?: AwsCredentials | (() => Promise<AwsCredentials>);
  /** The prefix of all queue and topic names, followed by `_`: letters, digits, `-`. Default: none. */
  readonly namePrefix?: string;
  /**
   * The visibility timeout in milliseconds, in whole seconds. The engine extends it while a message is in flight. 1 s
   * to 12 h. Default 30,000.
   */
  readonly visibilityTimeoutMs?: number;
  /**
   * Seconds that a poll waits for messages, 1 to 20. Stopping a consumer waits for its polls: a message that arrives at
   * an abandoned poll is invisible until its visibility timeout. Default 5.
   */
  readonly waitSeconds?: number;
  /** The most concurrent polls of one consumer. Default 10. */
  readonly maxPolls?: number;
  /**
   * How often SQS delivers a message of a declared queue before it dead-letters the message. This catches messages that
   * crash a consumer before the retry policy can act. 1 to 1,000. Default 100.
   */
  readonly maxReceives?: number;
  /** Seconds that declared queues and dead letters keep a message. 60 to 1,209,600. Default 1,209,600 (14 days). */
  readonly retentionSeconds?: number;
  /**
   * More attributes for declared queues, such as `{ KmsMasterKeyId: "alias/orders" }`. `DeduplicationScope` and
   * `FifoThroughputLimit` are set on FIFO queues only.
   */
  readonly queueAttributes?: Readonly<Record<string, string>>;
  /** More attributes for declared topics. */
  readonly topicAttributes?: Readonly<Record<string, string>>;
  /** Milliseconds to open a connection. A day at most. Default 3,000. */
  readonly connectTimeoutMs?: number;
  /** Milliseconds for a request until its whole answer has arrived; polls also get their wait. A day at most. Default 10,000. */
  readonly requestTimeoutMs?: number;
}

/** The checked options with defaults. */
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
const MAX_VISIBILITY_MS = 12 * 60 * 60 * 1_000;
/** The SDK adds times to them, and Node fires timers over 2^31 - 1 ms at once. */
const MAX_TIMEOUT_MS = 24 * 60 * 60 * 1_000;
/** The SDK makes a host name with it. */
const REGION = /^(?!-)[A-Za-z0-9-]{1,63}(?<!-)$/;

/** Environment variables, read as the AWS SDK reads them. */
type Environment = Readonly<Record<string, string | undefined>>;

/** Checks the options and applies defaults. Throws `invalid`; the error never contains a credential. */
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
  if (settings.region !== undefined && !REGION.test(settings.region)) {
    throw invalid("takes a region such as eu-central-1; write another server as endpoint");
  }
  if (typeof namePrefix !== "string" || !/^[A-Za-z0-9-]*$/.test(namePrefix)) {
    throw invalid('takes letters, digits and "-" as namePrefix');
  }
  checkInteger(`${WHERE} { visibilityTimeoutMs }`, settings.leaseMs, 1_000, MAX_VISIBILITY_MS);
  if (settings.leaseMs % 1_000 !== 0) throw invalid("takes whole seconds as visibilityTimeoutMs");
  checkInteger(`${WHERE} { waitSeconds }`, settings.waitSeconds, 1, 20);
  checkInteger(`${WHERE} { maxPolls }`, settings.maxPolls, 1, 1_000);
  checkInteger(`${WHERE} { maxReceives }`, settings.maxReceives, 1, 1_000);
  checkInteger(`${WHERE} { retentionSeconds }`, settings.retentionSeconds, 60, 1_209_600);
  checkInteger(`${WHERE} { connectTimeoutMs }`, settings.connectTimeoutMs, 1, MAX_TIMEOUT_MS);
  checkInteger(`${WHERE} { requestTimeoutMs }`, settings.requestTimeoutMs, 1, MAX_TIMEOUT_MS);
  return settings;
}

/** The URLs of SQS and SNS. Reads the environment too, for one rule for both, and to name the variable in errors. */
function endpointsOf(
  { endpoint, snsEndpoint }: SqsOptions,
  env: Environment,
): Pick<Settings, "endpoint" | "snsEndpoint"> {
  const ignored = env.AWS_IGNORE_CONFIGURED_ENDPOINT_URLS === "true";
  const configured = (name: string): string | undefined =>
    ignored || env[name] === "" ? undefined : checkEndpoint(name, env[name]);
  const given = checkEndpoint("endpoint", endpoint);
  const general = (): string | undefined => configured("AWS_ENDPOINT_URL");
  return {
    endpoint: given ?? configured("AWS_ENDPOINT_URL_SQS") ?? general(),
    snsEndpoint: checkEndpoint("snsEndpoint", snsEndpoint) ?? configured("AWS_ENDPOINT_URL_SNS") ?? given ?? general(),
  };
}

function checkCredentials(credentials: SqsOptions["credentials"]): SqsOptions["credentials"] {
  if (credentials === undefined || typeof credentials === "function") return credentials;
  // The SDK does not check the expiration of fixed credentials.
  const flaw = flawOf({ ...(credentials as AwsCredentials), expiration: undefined });
  if (flaw === undefined) return credentials;
  throw invalid(
    `takes ${KEYS} as credentials, or a function that returns them${flaw === "none" ? "" : `; these have ${flaw}`}`,
  );
}

/** Checks a URL. Errors quote nothing of it, because any part of a malformed URL may contain a secret. */
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
    throw invalid(`takes an object of strings as ${name}, such as { KmsMasterKeyId: "alias/orders" }`);
  }
  for (const [attribute, value] of Object.entries(given)) {
    if (own.includes(attribute)) throw invalid(`sets the attribute ${attribute} itself; remove it from ${name}`);
    if (typeof value !== "string") throw invalid(`takes strings as ${name}; ${attribute} is none`);
  }
  return { ...given };
}

function invalid(problem: string): MessagingError {
  return new MessagingError("invalid", `${WHERE} ${problem}`);
}
