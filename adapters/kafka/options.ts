import type { ConnectionOptions } from "node:tls";
import { checkInteger, checkOptions, optionalText } from "../../core/checks.ts";
import { MessagingError } from "../../core/errors.ts";
import { type Compression, DEFAULT_LIMITS } from "./records/contract.ts";

const DEFAULT_PORT = 9092;
const PLACE = /^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?$/;

/**
 * Hosts with ports, from a list or a text with commas. Throws `invalid`, quoting nothing of what was given: it may be a URL
 * with a password.
 */
function parseBrokers(given: string | readonly string[]): readonly string[] {
  const places: unknown = typeof given === "string" ? given.split(",") : given;
  if (!Array.isArray(places) || places.length === 0) throw malformed();
  return places.map((place: unknown) => {
    const [, host, port] = (typeof place === "string" && PLACE.exec(place.trim())) || [];
    const number = port === undefined ? DEFAULT_PORT : Number(port);
    if (host === undefined || number < 1 || number > 65_535) throw malformed();
    return `${host}:${number}`;
  });
}

function malformed(): MessagingError {
  return new MessagingError(
    "invalid",
    'kafka() takes brokers such as ["a.example:9092", "b.example:9092"] or "a.example:9092,b.example:9092": hosts with ports, no URLs; log in by sasl',
  );
}

/** How to log in to Kafka: by a password, with AWS's own mechanism, or with a token that is fetched when it is needed. */
export type KafkaSasl =
  | {
      readonly mechanism: "plain" | "scram-sha-256" | "scram-sha-512";
      readonly username: string;
      readonly password: string;
    }
  | {
      readonly mechanism: "aws";
      readonly authorizationIdentity: string;
      readonly accessKeyId: string;
      readonly secretAccessKey: string;
      readonly sessionToken?: string;
    }
  | {
      readonly mechanism: "oauthbearer";
      /** Asked at each login. Where it rejects the login fails, with nothing of its error, which may hold the token. */
      readonly oauthBearerProvider: () => Promise<{ readonly value: string }>;
    };

const PASSWORD = ["username", "password"];
const AWS = ["authorizationIdentity", "accessKeyId", "secretAccessKey"];
const MECHANISMS: Readonly<Record<KafkaSasl["mechanism"], readonly string[]>> = {
  plain: PASSWORD,
  "scram-sha-256": PASSWORD,
  "scram-sha-512": PASSWORD,
  aws: AWS,
  oauthbearer: ["oauthBearerProvider"],
};

/** A checked copy. Throws `invalid` for what is missing or unknown. */
function resolveSasl(sasl: KafkaSasl | undefined): KafkaSasl | undefined {
  if (sasl === undefined) return undefined;
  // Of an object Node would make a name, which may throw.
  if (typeof sasl !== "object" || typeof sasl?.mechanism !== "string" || !Object.hasOwn(MECHANISMS, sasl.mechanism)) {
    throw invalidLogin(`takes an object with one of the mechanisms ${Object.keys(MECHANISMS).join(", ")} as sasl`);
  }
  const { mechanism } = sasl;
  const needed = MECHANISMS[mechanism];
  checkOptions("kafka() { sasl }", sasl, ["mechanism", ...needed, ...(mechanism === "aws" ? ["sessionToken"] : [])]);
  for (const name of needed) {
    const value = (sasl as Readonly<Record<string, unknown>>)[name];
    const fits = mechanism === "oauthbearer" ? typeof value === "function" : typeof value === "string" && value !== "";
    if (!fits) throw invalidLogin(`needs ${needed.join(" and ")} for the mechanism ${mechanism}; ${name} is missing`);
  }
  return { ...sasl };
}

function invalidLogin(problem: string): MessagingError {
  return new MessagingError("invalid", `kafka() ${problem}`);
}

/** How to reach Kafka and what to ask of it. Everything but `brokers` has a default. */
export interface KafkaOptions {
  /**
   * Where to begin: `["a:9092", "b:9092"]` or `"a:9092,b:9092"`, port 9092 where none is given. Some of the cluster's
   * brokers are enough; the others are asked for there.
   */
  readonly brokers: string | readonly string[];
  /** What the brokers' logs and quotas know this process by. Default `anybroker`. */
  readonly clientId?: string;
  /**
   * `true` or Node's `tls.connect` options (`ca`, `cert`, `key`, `servername` and so on): the connections are encrypted.
   * The brokers' certificates are always verified: `rejectUnauthorized: false` is refused. Default: not encrypted.
   */
  readonly ssl?: boolean | ConnectionOptions;
  /** How to log in. Default: not at all. */
  readonly sasl?: KafkaSasl;
  /** Milliseconds that one attempt to connect may take, login included. Default 10,000. */
  readonly connectTimeoutMs?: number;
  /**
   * Milliseconds that a broker may take to answer a request; after that its connection counts as dead and is made anew.
   * Default 30,000.
   */
  readonly requestTimeoutMs?: number;
  /**
   * Milliseconds between attempts to reach the cluster again: the first wait, doubled up to the longest, each with
   * random jitter. Attempts never end. Default 100 and 3,000.
   */
  readonly reconnect?: { readonly firstMs?: number; readonly maxMs?: number };
  /**
   * Milliseconds without a sign of life after which Kafka takes a consumer for dead and gives its partitions to others.
   * Heartbeats do not depend on handlers. The broker bounds it (6,000 to 1,800,000 unless told otherwise). Default 30,000.
   */
  readonly sessionTimeoutMs?: number;
  /**
   * Milliseconds that a consumer has, when its partitions are to go to others, to finish what its handlers are at. What
   * runs longer is aborted, and starts again elsewhere. Default 60,000.
   */
  readonly drainTimeoutMs?: number;
  /**
   * The number of partitions that a work or event topic is made with: how many processes can share one ordered
   * destination. An existing topic with fewer is a `conflict` where it is given. Default 4.
   */
  readonly partitions?: number;
  /**
   * On how many brokers each partition is made to stand. An existing topic with fewer is a `conflict` where it is given.
   * Default: 3, or as many brokers as run when the topic is made. Of 3 or more, two must have a message before it counts
   * as confirmed.
   */
  readonly replicationFactor?: number;
  /**
   * Milliseconds for which the topics of events keep them, consumed or not; -1 for ever. Queues keep what is not handled
   * for ever in any case. Default 7 days. A subscription that lags behind by more loses events, and says so.
   */
  readonly retentionMs?: number;
  /**
   * More configuration for the topics made here, as in `{ "segment.bytes": "104857600" }`. What anybroker's guarantees
   * rest on is refused.
   */
  readonly topicConfiguration?: Readonly<Record<string, string>>;
  /**
   * Which records of queues are deleted from the log, about once a minute. `shared`: what is handled here and was passed by
   * every other group that commits offsets on the topic; it takes the right to describe the cluster and all groups, and
   * deletes nothing without. `exclusive`: what is handled here, whoever else reads there. `never`: none. What is not deleted
   * stays for ever: Kafka must not delete by age what may not be handled yet. Default `shared`.
   */
  readonly trim?: KafkaTrim;
  /**
   * How record batches are compressed. `snappy` and `lz4` need a codec registered with kafkajs' `CompressionCodecs`.
   * All are read. Default `none`.
   */
  readonly compression?: KafkaCompression;
  /**
   * The largest body, in bytes. Topics are made to take it with its headers; an existing one that does not is a
   * `conflict`. Default 917,504 (896 KiB), which is what fits where Kafka's own limit was left alone.
   */
  readonly maxMessageBytes?: number;
  /**
   * What is done with a batch of records that cannot be read, because it inflates to more than `maxInflatedBytes`, is
   * compressed in a way that nothing here knows, or is no batch of records although its checksum is right: `dead-letter`
   * goes on behind it, and leaves a dead letter that refers to it; `stop` stops the partition, which the consumer's status
   * says, until it can be read. Default `dead-letter`.
   */
  readonly unreadable?: "dead-letter" | "stop";
  /** The most bytes that a batch may inflate to. Default 67,108,864 (64 MiB). */
  readonly maxInflatedBytes?: number;
}

/** How record batches can be compressed. */
export type KafkaCompression = Compression;

/** Which handled records are deleted; see {@link KafkaOptions.trim}. */
export type KafkaTrim = "shared" | "exclusive" | "never";

/** The options, checked and with their defaults. */
export interface Settings {
  readonly brokers: readonly string[];
  readonly clientId: string;
  readonly ssl: ConnectionOptions | undefined;
  readonly sasl: KafkaSasl | undefined;
  readonly connectTimeoutMs: number;
  readonly requestTimeoutMs: number;
  readonly reconnectFirstMs: number;
  readonly reconnectMaxMs: number;
  readonly sessionTimeoutMs: number;
  readonly drainTimeoutMs: number;
  readonly partitions: number;
  /** Whether existing topics must have as many. */
  readonly partitionsGiven: boolean;
  /** Undefined for as many as the cluster allows, up to 3. */
  readonly replicationFactor: number | undefined;
  readonly retentionMs: number;
  readonly topicConfiguration: Readonly<Record<string, string>>;
  readonly trim: KafkaTrim;
  readonly compression: KafkaCompression;
  readonly maxMessageBytes: number;
  readonly unreadable: "dead-letter" | "stop";
  readonly maxInflatedBytes: number;
}

const WHERE = "kafka()";
const OPTIONS = [
  "brokers",
  "clientId",
  "ssl",
  "sasl",
  "connectTimeoutMs",
  "requestTimeoutMs",
  "reconnect",
  "sessionTimeoutMs",
  "drainTimeoutMs",
  "partitions",
  "replicationFactor",
  "retentionMs",
  "topicConfiguration",
  "trim",
  "compression",
  "maxMessageBytes",
  "unreadable",
  "maxInflatedBytes",
];
const TRIMS: readonly string[] = ["shared", "exclusive", "never"] satisfies KafkaTrim[];
const UNREADABLE: readonly string[] = ["dead-letter", "stop"];
const COMPRESSIONS: readonly string[] = ["none", "gzip", "snappy", "lz4", "zstd"] satisfies KafkaCompression[];
/** Set by anybroker itself, or by an option. */
const OWN_CONFIGURATION = [
  "cleanup.policy",
  "retention.ms",
  "retention.bytes",
  "max.message.bytes",
  "min.insync.replicas",
  "unclean.leader.election.enable",
];
const MAX_TIMEOUT_MS = 2 ** 31 - 1;
const DAY_MS = 24 * 60 * 60 * 1000;
/** What a single Buffer can hold on every supported Node.js. */
const LARGEST_BUFFER = 2 ** 32;
const MAX_MESSAGE_BYTES = 64 * 1024 * 1024;
const DEFAULT_MESSAGE_BYTES = 896 * 1024;
/** For key, headers and what the format adds, so that the default with it is 1 MiB, just under Kafka's own limit. */
const BESIDE_THE_BODY_BYTES = 128 * 1024;

/** The `max.message.bytes` that a topic needs, which also bounds a batch of several messages. */
export function mostBatchBytes({ maxMessageBytes }: Pick<Settings, "maxMessageBytes">): number {
  return maxMessageBytes + BESIDE_THE_BODY_BYTES;
}

/** Checks the options and fills in what is missing. Throws `invalid`; the error never holds a secret. */
export function resolveOptions(options: KafkaOptions): Settings {
  checkOptions(WHERE, options, OPTIONS);
  const { reconnect = {} } = options;
  checkOptions(`${WHERE} { reconnect }`, reconnect, ["firstMs", "maxMs"]);
  const settings: Settings = {
    brokers: parseBrokers(options.brokers),
    clientId: optionalText(WHERE, "clientId", options.clientId) ?? "anybroker",
    ssl: resolveTls(options.ssl),
    sasl: resolveSasl(options.sasl),
    connectTimeoutMs: options.connectTimeoutMs ?? 10_000,
    requestTimeoutMs: options.requestTimeoutMs ?? 30_000,
    reconnectFirstMs: reconnect.firstMs ?? 100,
    reconnectMaxMs: reconnect.maxMs ?? Math.max(3_000, reconnect.firstMs ?? 0),
    sessionTimeoutMs: options.sessionTimeoutMs ?? 30_000,
    drainTimeoutMs: options.drainTimeoutMs ?? 60_000,
    partitions: options.partitions ?? 4,
    partitionsGiven: options.partitions !== undefined,
    replicationFactor: options.replicationFactor,
    retentionMs: options.retentionMs ?? 7 * DAY_MS,
    topicConfiguration: checkConfiguration(options.topicConfiguration ?? {}),
    trim: options.trim ?? "shared",
    compression: options.compression ?? "none",
    maxMessageBytes: options.maxMessageBytes ?? DEFAULT_MESSAGE_BYTES,
    unreadable: options.unreadable ?? "dead-letter",
    maxInflatedBytes: options.maxInflatedBytes ?? DEFAULT_LIMITS.maxInflatedBytes,
  };
  checkNumbers(settings);
  checkChoice("trim", settings.trim, TRIMS);
  checkChoice("unreadable", settings.unreadable, UNREADABLE);
  checkChoice("compression", settings.compression, COMPRESSIONS);
  return settings;
}

function checkChoice(name: string, value: string, choices: readonly string[]): void {
  if (!choices.includes(value)) throw invalid(`takes ${choices.map((one) => `"${one}"`).join(", ")} as ${name}`);
}

function checkNumbers(settings: Settings): void {
  const bounds: readonly [name: string, value: number | undefined, least: number, most: number][] = [
    ["connectTimeoutMs", settings.connectTimeoutMs, 1, MAX_TIMEOUT_MS],
    ["requestTimeoutMs", settings.requestTimeoutMs, 1, MAX_TIMEOUT_MS],
    ["reconnect.firstMs", settings.reconnectFirstMs, 1, MAX_TIMEOUT_MS],
    ["reconnect.maxMs", settings.reconnectMaxMs, settings.reconnectFirstMs, MAX_TIMEOUT_MS],
    ["sessionTimeoutMs", settings.sessionTimeoutMs, 1, MAX_TIMEOUT_MS],
    ["drainTimeoutMs", settings.drainTimeoutMs, 1, MAX_TIMEOUT_MS],
    ["partitions", settings.partitions, 1, 10_000],
    ["replicationFactor", settings.replicationFactor ?? 1, 1, 2 ** 15 - 1],
    ["retentionMs", settings.retentionMs === -1 ? 1 : settings.retentionMs, 1, Number.MAX_SAFE_INTEGER],
    ["maxMessageBytes", settings.maxMessageBytes, 1, MAX_MESSAGE_BYTES],
    ["maxInflatedBytes", settings.maxInflatedBytes, 1, LARGEST_BUFFER],
  ];
  for (const [name, value, least, most] of bounds) checkInteger(`${WHERE} { ${name} }`, value, least, most);
}

function resolveTls(ssl: boolean | ConnectionOptions | undefined): ConnectionOptions | undefined {
  if (ssl === undefined || ssl === false) return undefined;
  if (ssl === true) return {};
  if (typeof ssl !== "object" || ssl === null) throw invalid("takes true or an object of TLS options as ssl");
  if (ssl.rejectUnauthorized === false) {
    throw invalid("always verifies the brokers' certificates; give the authority that signed them as ssl.ca");
  }
  return { ...ssl };
}

function checkConfiguration(given: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  if (typeof given !== "object" || given === null) throw invalid("takes an object of texts as topicConfiguration");
  for (const [name, value] of Object.entries(given)) {
    if (OWN_CONFIGURATION.includes(name)) {
      throw invalid(`sets the topic configuration ${name} itself; leave it out, or use an option`);
    }
    if (typeof value !== "string") throw invalid(`takes texts as topicConfiguration; ${name} is none`);
  }
  return { ...given };
}

function invalid(problem: string): MessagingError {
  return new MessagingError("invalid", `${WHERE} ${problem}`);
}
