import type { KafkaCompression, KafkaOptions, KafkaTrim } from "../../adapters/kafka/options.ts";
import type { KafkaSasl } from "../../adapters/kafka/sasl.ts";
import { brokerUrl } from "./broker-url.ts";
import { choice, elsewhere, flag, integer, names, parts, reconnect, text, timeoutMs } from "./parameters.ts";
import type { Refuse } from "./refuse.ts";

type Password = Extract<KafkaSasl, { readonly password: string }>;

/** `kafka:`, and encrypted `kafka+ssl:`. */
export const kafkaUrl = brokerUrl<KafkaOptions>({
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
    brokers: elsewhere("they are the hosts of the URL, with commas between them"),
  },
  read({ scheme, username, password, hosts, path }, { sasl, ...given }, refuse) {
    if (path !== "" && path !== "/") throw refuse("takes no path; topics are named by queue(…) and topic(…)");
    const ssl = scheme === "kafka+ssl" ? true : given.ssl;
    if (given.ssl === false && ssl) throw refuse("takes no ssl=false with kafka+ssl: ; write kafka: instead");
    const login = { username, password, mechanism: (sasl as Partial<Password> | undefined)?.mechanism };
    return { brokers: hosts, ...given, ...(ssl === undefined ? {} : { ssl }), ...saslOf(login, refuse) };
  },
  load: async () => (await import("../../adapters/kafka/index.ts")).kafka,
});

/** How to log in; without user and password not at all. */
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
