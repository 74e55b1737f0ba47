import type { ConnectionOptions } from "node:tls";
import { checkInteger, checkOptions, optionalText } from "../../core/checks.ts";
import { MessagingError } from "../../core/errors.ts";
import { type Compression, DEFAULT_LIMITS, storedCompression } from "./records/contract.ts";

const DEFAULT_PORT = 9092;
const PLACE = /^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::(\d{1,5}))?$/;

/**
 * Parses brokers from a list or comma-separated text. Throws `invalid` without quoting the input, which may be a URL
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
  return invalid(
    'takes brokers such as ["a.example:9092", "b.example:9092"] or "a.example:9092,b.example:9092": hosts with ports, no URLs; log in by sasl',
  );
}

/** How to log in to Kafka: by a password, by AWS's own mechanism or by a token fetched when needed. */
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
      /** Called at each login. If it rejects, the login fails; the error is left out, since it may hold the token. */
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

/** Returns a checked copy. Throws `invalid` for missing or unknown properties. */
function resolveSasl(sasl: KafkaSasl | undefined): KafkaSasl | undefined {
  if (sasl === undefined) return undefined;
  // Node would convert an object to a property name, which may throw.
  if (typeof sasl !== "object" || typeof sasl?.mechanism !== "string" || !Object.hasOwn(MECHANISMS, sasl.mechanism)) {
    throw invalid(`takes an object with one of the mechanisms ${Object.keys(MECHANISMS).join(", ")} as sasl`);
  }
  const { mechanism } = sasl;
  const needed = MECHANISMS[mechanism];
  checkOptions("kafka() { sasl }", sasl, ["mechanism", ...needed, ...(mechanism === "aws" ? ["sessionToken"] : [])]);
  for (const name of needed) {
    const value = (sasl as Readonly<Record<string, unknown>>)[name];
    const fits = mechanism === "oauthbearer" ? typeof value === "function" : typeof value === "string" && value !== "";
    if (!fits) throw invalid(`needs ${needed.join(" and ")} for the mechanism ${mechanism}; ${name} is missing`);
  }
  return { ...sasl };
}

/** How to connect to Kafka and how to use it. Only `brokers` is required. */
export interface KafkaOptions {
  /**
   * Some of the cluster's brokers: `["a:9092", "b:9092"]` or `"a:9092,b:9092"`. The default port is 9092. The others
   * are found through them.
   */
  readonly brokers: string | readonly string[];
  /** The name of this process in the brokers' logs and quotas. Default `anybroker`. */
  readonly clientId?: string;
  /**
   * `true` or Node's `tls.connect` options (`ca`, `cert`, `key`, `servername` and so on) to encrypt the connections.
   * Certificates are always verified: `rejectUnauthorized: false` is refused. Default: not encrypted.
   */
  readonly ssl?: boolean | ConnectionOptions;
  /** How to log in. Default: no login. */
  readonly sasl?: KafkaSasl;
  /** Milliseconds for one attempt to connect, login included. Default 10,000. */
  readonly connectTimeoutMs?: number;
  /**
   * Milliseconds that a broker may take to answer a request. Then its connection counts as dead and is replaced.
   * Default 30,000.
   */
  readonly requestTimeoutMs?: number;
  /**
   * Milliseconds between attempts to reach the cluster again: the first wait and the longest. Each wait doubles the one
   * before, with random jitter. Attempts never end. Default 100 and 3,000.
   */
  readonly reconnect?: { readonly firstMs?: number; readonly maxMs?: number };
  /**
   * Milliseconds without a heartbeat after which Kafka gives a consumer's partitions to others. Heartbeats do not
   * depend on handlers. The broker limits it, by default to 6,000 to 1,800,000. Default 30,000.
   */
  readonly sessionTimeoutMs?: number;
  /**
   * Milliseconds that running handlers have to finish when partitions move to another consumer. Then they are aborted,
   * and their messages are delivered again elsewhere. Default 60,000.
   */
  readonly drainTimeoutMs?: number;
  /**
   * The number of partitions of new work and event topics: how many processes can share an ordered destination. If set,
   * an existing topic with fewer is a `conflict`. Default 4.
   */
  readonly partitions?: number;
  /**
   * The number of replicas of each partition. If set, an existing topic with fewer is a `conflict`. Default: 3, or the
   * number of running brokers if that is less. With 3 or more, two must have a message before it is confirmed.
   */
  readonly replicationFactor?: number;
  /**
   * Milliseconds that event topics keep events, consumed or not; -1 for ever. Queues keep unhandled messages for ever.
   * A subscription that is further behind loses events, and reports that. Default 7 days.
   */
  readonly retentionMs?: number;
  /**
   * More configuration for new topics, such as `{ "segment.bytes": "104857600" }`. Settings that anybroker's guarantees
   * depend on are refused.
   */
  readonly topicConfiguration?: Readonly<Record<string, string>>;
  /**
   * Which records of queues are deleted from the log, about once a minute. `shared`: records that are handled here and
   * that every other group with committed offsets has passed. It needs the right to describe the cluster and all
   * groups, and deletes nothing without it. `exclusive`: records that are handled here, even if other groups read the
   * topic. `never`: none. Kafka deletes no record of a queue by age. Default `shared`.
   */
  readonly trim?: KafkaTrim;
  /**
   * How record batches are compressed. `snappy` and `lz4` need a codec registered with kafkajs' `CompressionCodecs`.
   * All of them can be read. Default `none`.
   */
  readonly compression?: KafkaCompression;
  /**
   * The largest body, in bytes. New topics accept it with its headers; an existing topic that does not is a `conflict`.
   * Default 917,504 (896 KiB), which fits Kafka's own default limit.
   */
  readonly maxMessageBytes?: number;
  /**
   * What to do with a batch that cannot be read: it inflates to more than `maxInflatedBytes`, its compression is
   * unknown, or it is not a record batch although its checksum is right. `dead-letter` writes a dead letter that refers
   * to it and continues behind it. `stop` stops the partition until it can be read; the consumer's status says so.
   * Default `dead-letter`.
   */
  readonly unreadable?: "dead-letter" | "stop";
  /**
   * The most bytes that a batch may inflate to. With compression at least the largest `max.message.bytes` of new topics:
   * `maxMessageBytes` and 192 KiB, or 1,114,124. Default 67,108,864 (64 MiB), or that if it is more.
   */
  readonly maxInflatedBytes?: number;
}

/** The compressions of record batches. */
export type KafkaCompression = Compression;

/** Which handled records are deleted; see {@link KafkaOptions.trim}. */
export type KafkaTrim = "shared" | "exclusive" | "never";

/** The checked options with their defaults. */
export interface Settings
  extends Required<Omit<KafkaOptions, "brokers" | "ssl" | "sasl" | "reconnect" | "replicationFactor">> {
  readonly brokers: readonly string[];
  readonly ssl: ConnectionOptions | undefined;
  readonly sasl: KafkaSasl | undefined;
  readonly reconnectFirstMs: number;
  readonly reconnectMaxMs: number;
  /** Whether existing topics need as many partitions. */
  readonly partitionsGiven: boolean;
  /** Undefined: as many as the cluster allows, up to 3. */
  readonly replicationFactor: number | undefined;
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
/** Set by anybroker or by an option. */
const OWN_CONFIGURATION = [
  "cleanup.policy",
  "retention.ms",
  "retention.bytes",
  "max.message.bytes",
  "min.insync.replicas",
  "unclean.leader.election.enable",
];
const MAX_TIMEOUT_MS = 2 ** 31 - 1;
/** How much longer the group waits than a consumer may drain: it also has to commit. */
const LAST_COMMIT_MS = 10_000;
const DAY_MS = 24 * 60 * 60 * 1000;
/** The largest Buffer on every supported Node.js. */
const LARGEST_BUFFER = 2 ** 32;
const MAX_MESSAGE_BYTES = 64 * 1024 * 1024;
const DEFAULT_MESSAGE_BYTES = 896 * 1024;
/** Room for key, headers and framing. With it the default is 1 MiB, just under Kafka's own limit. */
const BESIDE_THE_BODY_BYTES = 128 * 1024;

/** Kafka's own default of `max.message.bytes`, which is never lowered. */
const DEFAULT_BATCH_BYTES = 1_048_588;
/** For headers that foreign records get on the way into a derived topic. */
const HEADROOM_BYTES = 64 * 1024;

/** The `max.message.bytes` of a new topic; a derived one holds copies of another topic's records, with more headers. */
export function topicBatchBytes(settings: Pick<Settings, "maxMessageBytes">, derived: boolean): number {
  return Math.max(mostBatchBytes(settings), DEFAULT_BATCH_BYTES) + (derived ? HEADROOM_BYTES : 0);
}

/** The `max.message.bytes` that a topic needs. It also limits batches of several messages. */
export function mostBatchBytes({ maxMessageBytes }: Pick<Settings, "maxMessageBytes">): number {
  return maxMessageBytes + BESIDE_THE_BODY_BYTES;
}

/** How long the group waits for a consumer that gives partitions back, in milliseconds. */
export function rebalanceTimeoutMs({ drainTimeoutMs }: Pick<Settings, "drainTimeoutMs">): number {
  // The protocol has no more bits.
  return Math.min(drainTimeoutMs + LAST_COMMIT_MS, MAX_TIMEOUT_MS);
}

/** Checks the options and adds the defaults. Throws `invalid`; the error never holds a secret. */
export function resolveOptions(options: KafkaOptions): Settings {
  checkOptions(WHERE, options, OPTIONS);
  const { reconnect = {}, maxMessageBytes = DEFAULT_MESSAGE_BYTES } = options;
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
    maxMessageBytes,
    unreadable: options.unreadable ?? "dead-letter",
    maxInflatedBytes:
      options.maxInflatedBytes ?? Math.max(DEFAULT_LIMITS.maxInflatedBytes, topicBatchBytes({ maxMessageBytes }, true)),
  };
  checkNumbers(settings);
  checkChoice("trim", settings.trim, TRIMS);
  checkChoice("unreadable", settings.unreadable, UNREADABLE);
  checkChoice("compression", settings.compression, COMPRESSIONS);
  checkInflating(settings);
  return settings;
}

function checkChoice(name: string, value: string, choices: readonly string[]): void {
  if (!choices.includes(value)) throw invalid(`takes ${choices.map((one) => `"${one}"`).join(", ")} as ${name}`);
}

/** A process must be able to read what it sends. */
function checkInflating(settings: Settings): void {
  const { compression, topicConfiguration, maxInflatedBytes } = settings;
  const stored = storedCompression(topicConfiguration["compression.type"]);
  const least = topicBatchBytes(settings, true);
  if ((compression === "none" && stored === "none") || maxInflatedBytes >= least) return;
  throw invalid(
    `with compression takes a maxInflatedBytes of ${least} or more, since new topics take records of that size; raise it, or lower maxMessageBytes`,
  );
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
  // Said explicitly, because NODE_TLS_REJECT_UNAUTHORIZED=0 changes Node's default.
  if (ssl === true) return { rejectUnauthorized: true };
  if (typeof ssl !== "object" || ssl === null) throw invalid("takes true or an object of TLS options as ssl");
  if (ssl.rejectUnauthorized === false) {
    throw invalid("always verifies the brokers' certificates; give the authority that signed them as ssl.ca");
  }
  return { ...ssl, rejectUnauthorized: true };
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
