import type { KafkaCompression, KafkaOptions, KafkaSasl, KafkaTrim } from "../../adapters/kafka/options.ts";
import type { MemoryOptions } from "../../adapters/memory/index.ts";
import type { RabbitMQOptions } from "../../adapters/rabbitmq/options.ts";
import type { SqsOptions } from "../../adapters/sqs/options.ts";
import type { Adapter } from "../../core/adapter.ts";
import { checkOptions } from "../../core/checks.ts";
import {
  type BrokerUrl,
  brokerUrl,
  choice,
  elsewhere,
  flag,
  integer,
  names,
  nearest,
  parts,
  type Refuse,
  reconnect,
  refuseAs,
  scalar,
  text,
  timeoutMs,
  type UrlOptions,
  urlParts,
} from "./query.ts";

/** URLs of Kafka: `kafka:`, and `kafka+ssl:` with TLS. */
const kafkaUrl = brokerUrl<KafkaOptions>({
  name: "kafka",
  schemes: ["kafka", "kafka+ssl"],
  form: "kafka://user:password@a:9092,b:9092",
  packages: ["kafkajs@~2.2.4"],
  parameters: {
    clientId: text(),
    ssl: flag(),
    sasl: parts({ mechanism: choice<Password["mechanism"]>("plain", "scram-sha-256", "scram-sha-512") }),
    connectTimeoutMs: timeoutMs(),
    requestTimeoutMs: timeoutMs(),
    reconnect: reconnect(),
    sessionTimeoutMs: timeoutMs(),
    drainTimeoutMs: timeoutMs(),
    partitions: integer(1, 10_000),
    replicationFactor: integer(1, 2 ** 15 - 1),
    retentionMs: integer(1, Number.MAX_SAFE_INTEGER, -1),
    topicConfiguration: names(text()),
    trim: choice<KafkaTrim>("shared", "exclusive", "never"),
    compression: choice<KafkaCompression>("none", "gzip", "snappy", "lz4", "zstd"),
    maxMessageBytes: integer(1, 64 * 1024 * 1024),
    unreadable: choice<NonNullable<KafkaOptions["unreadable"]>>("dead-letter", "stop"),
    maxInflatedBytes: integer(1, 2 ** 32),
    brokers: elsewhere("brokers are the hosts of the URL, separated by commas"),
  },
  read({ scheme, username, password, hosts, path }, { sasl, ...given }, refuse) {
    if (path !== "" && path !== "/") throw refuse("takes no path; queue(…) and topic(…) name topics");
    const ssl = scheme === "kafka+ssl" ? true : given.ssl;
    if (given.ssl === false && ssl) throw refuse("takes no ssl=false with kafka+ssl: ; use kafka: instead");
    const login = { username, password, mechanism: (sasl as Partial<Password> | undefined)?.mechanism };
    return { brokers: hosts, ...given, ...(ssl === undefined ? {} : { ssl }), ...saslOf(login, refuse) };
  },
  load: async () => (await import("../../adapters/kafka/index.ts")).kafka,
});

/** The credentials; none without user and password. */
function saslOf(
  { username, password, mechanism }: { readonly [Name in keyof Password]: Password[Name] | undefined },
  refuse: Refuse,
): { readonly sasl?: KafkaSasl } {
  if (username !== undefined && password !== undefined) {
    return { sasl: { mechanism: mechanism ?? "plain", username, password } };
  }
  if (username !== undefined || password !== undefined) throw refuse("needs both a user and a password, or neither");
  if (mechanism !== undefined) throw refuse("needs user:password@ before its hosts for sasl.mechanism");
  return {};
}

/** URLs of the in-process broker: `memory:`. */
const memoryUrl = brokerUrl<MemoryOptions>({
  name: "memory",
  schemes: ["memory"],
  form: "memory:",
  packages: [],
  parameters: {
    leaseMs: integer(1),
    maxMessages: integer(1),
    space: elsewhere("pass { memory: { space } } to fromUrl; a space is an object of this process"),
    clock: elsewhere("pass { memory: { clock } } to fromUrl; a clock is an object of this process"),
  },
  read({ hosts, path, username, password }, given, refuse) {
    if (`${hosts}${path}` !== "" || username !== undefined || password !== undefined) {
      throw refuse("takes no name, only options; brokers share messages with { memory: { space } }");
    }
    return given;
  },
  load: async () => (await import("../../adapters/memory/index.ts")).memory,
});

const FORM = "amqp://user:password@host:5672/vhost";

/** URLs of RabbitMQ: `amqp:` and `amqps:`. The adapter itself reads everything before the query. */
const rabbitmqUrl = brokerUrl<RabbitMQOptions>({
  name: "rabbitmq",
  schemes: ["amqp", "amqps"],
  form: FORM,
  packages: ["amqplib"],
  parameters: {
    heartbeatSeconds: integer(1, 60),
    connectTimeoutMs: timeoutMs(),
    requestTimeoutMs: timeoutMs(),
    reconnect: reconnect(),
    deliveryLimit: integer(1),
    consumerTimeoutMs: timeoutMs(1_000),
    queueArguments: names(scalar()),
    managementUrl: text(),
    connectionName: text(),
    url: elsewhere("it is the URL itself"),
    host: elsewhere(`write ${FORM}`),
    port: elsewhere(`write ${FORM}`),
    username: elsewhere(`write ${FORM}`),
    password: elsewhere(`write ${FORM}`),
    vhost: elsewhere(`write ${FORM}`),
    tls: elsewhere("use amqps: for TLS; pass certificates as { rabbitmq: { tls } } to fromUrl"),
  },
  read: ({ beforeQuery }, given) => ({ url: beforeQuery, ...given }),
  load: async () => (await import("../../adapters/rabbitmq/index.ts")).rabbitmq,
});

/** URLs of SQS with SNS: `sqs:`. */
const sqsUrl = brokerUrl<SqsOptions>({
  name: "sqs",
  schemes: ["sqs"],
  form: "sqs://region?endpoint=http://localhost:4566",
  packages: ["@aws-sdk/client-sqs", "@aws-sdk/client-sns"],
  parameters: {
    endpoint: text(),
    snsEndpoint: text(),
    namePrefix: text(),
    visibilityTimeoutMs: integer(1_000, 12 * 60 * 60 * 1_000),
    waitSeconds: integer(1, 20),
    maxPolls: integer(1, 1_000),
    maxReceives: integer(1, 1_000),
    retentionSeconds: integer(60, 1_209_600),
    queueAttributes: names(text()),
    topicAttributes: names(text()),
    connectTimeoutMs: integer(1, 24 * 60 * 60 * 1_000),
    requestTimeoutMs: integer(1, 24 * 60 * 60 * 1_000),
    region: elsewhere("it is the host of the URL, as in sqs://eu-central-1"),
    credentials: elsewhere(
      "write sqs://access-key-id:secret-access-key@region for fixed credentials; pass others as { sqs: { credentials } } to fromUrl, or let the AWS SDK find them",
    ),
  },
  read({ username, password, hosts, path }, given, refuse) {
    if (!/^[A-Za-z0-9-]*$/.test(hosts)) {
      throw refuse("takes a region as its host, as in sqs://eu-central-1; write another server as ?endpoint=http://…");
    }
    if (path !== "" && path !== "/") throw refuse("takes no path; queue(…) and topic(…) name queues");
    if ((username === undefined) !== (password === undefined)) {
      throw refuse("needs both an access key id and a secret access key before its region, or neither");
    }
    return {
      ...given,
      ...(hosts === "" ? {} : { region: hosts }),
      ...(username === undefined || password === undefined
        ? {}
        : { credentials: { accessKeyId: username, secretAccessKey: password } }),
    };
  },
  load: async () => (await import("../../adapters/sqs/index.ts")).sqs,
});

/** The brokers with URLs, by adapter name. */
export const BROKERS: Readonly<Record<"memory" | "rabbitmq" | "kafka" | "sqs", BrokerUrl>> = {
  memory: memoryUrl,
  rabbitmq: rabbitmqUrl,
  kafka: kafkaUrl,
  sqs: sqsUrl,
};

const WHERE = "fromUrl()";

/**
 * Makes the adapter for a URL:
 *
 * - `memory:`: the in-process broker
 * - `amqp://user:password@host:5672/vhost`: RabbitMQ; a cluster has hosts separated by commas; `amqps:` for TLS
 * - `kafka://user:password@a:9092,b:9092`: Kafka; `kafka+ssl:` for TLS
 * - `sqs://eu-central-1`: SQS and SNS; an emulator with `?endpoint=http://localhost:4566`
 *
 * The query has options of the adapter: `kafka://a:9092?sessionTimeoutMs=10000`. A dot separates the levels:
 * `reconnect.maxMs=5000`. Each call makes an adapter for one broker object, and connects nothing. The adapter and its client
 * are imported only now.
 *
 * Rejects with `invalid` for a URL that is missing, malformed or of an unknown scheme, and for unknown or wrong options, all
 * at once. Rejects with `unsupported` and the name of the package if the broker's client is not installed. Errors quote no
 * values, since any may be a password.
 *
 * @example createBroker(await fromUrl(process.env.BROKER_URL))
 */
export async function fromUrl(url: string | undefined, options: UrlOptions = {}): Promise<Adapter> {
  const { broker, settings } = readUrl(url, options);
  return broker.adapter(settings);
}

/** Returns the broker of a URL, and the options of its adapter. Throws `invalid`. */
export function readUrl(
  url: string | undefined,
  options: UrlOptions = {},
): { readonly broker: BrokerUrl; readonly settings: object } {
  checkOptions(WHERE, options, Object.keys(BROKERS));
  const known = Object.values(BROKERS);
  const refuse = refuseAs(WHERE);
  const refuseAll = (problem: string) => refuse(`${problem}; it takes ${known.map(({ form }) => form).join(" or ")}`);
  if (typeof url !== "string" || url === "") throw refuseAll("got no URL; check the environment variable with the URL");
  const parts = urlParts(url, refuseAll);
  const broker = known.find(({ schemes }) => schemes.includes(parts.scheme));
  if (broker === undefined) throw refuse(unknownScheme(parts.scheme));
  return { broker, settings: broker.options(parts, options[broker.name] ?? {}) };
}

function unknownScheme(scheme: string): string {
  const known = Object.values(BROKERS).flatMap(({ schemes }) => schemes);
  const meant = nearest(scheme, known);
  const list = known.map((name) => `${name}:`).join(", ");
  return `knows no scheme ${scheme}:${meant === undefined ? "" : ` (did you mean ${meant}:?)`}; it knows ${list}`;
}

type Password = Extract<KafkaSasl, { readonly password: string }>;
