import { expect, test } from "vitest";
import { kafka } from "../../adapters/kafka/index.ts";
import {
  type KafkaOptions,
  rebalanceTimeoutMs,
  resolveOptions,
  topicBatchBytes,
} from "../../adapters/kafka/options.ts";
import { isMessagingError } from "../../core/errors.ts";

const CANARY = "canary-password";

function refusal(options: KafkaOptions): string {
  try {
    resolveOptions(options);
  } catch (error) {
    if (isMessagingError(error, "invalid")) return `${error.message} ${error.stack}`;
    throw error;
  }
  throw new Error("was not refused");
}

test.each<[string, string | readonly string[], string[]]>([
  ["a list", ["a.example:9093", "b.example:9092"], ["a.example:9093", "b.example:9092"]],
  ["a text", "a.example:9093, b.example:9092", ["a.example:9093", "b.example:9092"]],
  ["hosts without a port", "a.example", ["a.example:9092"]],
  ["addresses of version 6", "[::1]:9092,[fe80::1]", ["[::1]:9092", "[fe80::1]:9092"]],
])("brokers from %s", (_what, brokers, wanted) => {
  expect(resolveOptions({ brokers }).brokers).toEqual(wanted);
});

test("everything else has a default", () => {
  expect(resolveOptions({ brokers: "localhost" })).toEqual({
    brokers: ["localhost:9092"],
    clientId: "anybroker",
    ssl: undefined,
    sasl: undefined,
    connectTimeoutMs: 10_000,
    requestTimeoutMs: 30_000,
    reconnectFirstMs: 100,
    reconnectMaxMs: 3_000,
    sessionTimeoutMs: 30_000,
    drainTimeoutMs: 60_000,
    partitions: 4,
    partitionsGiven: false,
    replicationFactor: undefined,
    retentionMs: 604_800_000,
    topicConfiguration: {},
    trim: "shared",
    compression: "none",
    maxMessageBytes: 917_504,
    unreadable: "dead-letter",
    maxInflatedBytes: 64 * 1024 * 1024,
  });
});

test("by default whatever may be sent can be read, and without compression the limit may be any", () => {
  const largest = resolveOptions({ brokers: "localhost", compression: "gzip", maxMessageBytes: 2 ** 26 });
  expect(largest.maxInflatedBytes).toBe(topicBatchBytes(largest, true));
  const { maxInflatedBytes } = resolveOptions({
    brokers: "localhost",
    maxInflatedBytes: 1_000,
    topicConfiguration: { "compression.type": "producer" },
  });
  expect(maxInflatedBytes).toBe(1_000);
});

test("the group waits longer than a drain takes, as far as the protocol's numbers go", () => {
  expect(rebalanceTimeoutMs(resolveOptions({ brokers: "localhost" }))).toBe(70_000);
  const longest = resolveOptions({ brokers: "localhost", drainTimeoutMs: 2 ** 31 - 1 });
  expect(rebalanceTimeoutMs(longest)).toBe(2 ** 31 - 1);
});

test("topics that brokers compress by a codec that is not here are refused when the adapter opens", async () => {
  const options = { brokers: "localhost:1", topicConfiguration: { "compression.type": "lz4" } };
  const signals = { up: () => {}, down: () => {}, notice: () => {} } as never;
  await expect(kafka(options).open(signals)).rejects.toMatchObject({ code: "unsupported" });
});

test("what is passed through is a copy", () => {
  const sasl = { mechanism: "plain", username: "ada", password: CANARY } as const;
  const ssl = { servername: "kafka.example", rejectUnauthorized: undefined } as never as { servername: string };
  const topicConfiguration = { "segment.bytes": "1048576" };
  const options = Object.freeze({ brokers: ["localhost"], sasl, ssl, topicConfiguration, retentionMs: -1 });
  const settings = resolveOptions(options);
  const verified = { servername: "kafka.example", rejectUnauthorized: true };
  expect(settings).toMatchObject({ sasl, ssl: verified, topicConfiguration, retentionMs: -1 });
  expect(settings.sasl).not.toBe(sasl);
  expect(settings.ssl).not.toBe(ssl);
  expect(settings.topicConfiguration).not.toBe(topicConfiguration);
  expect(resolveOptions({ brokers: "localhost", ssl: true }).ssl).toEqual({ rejectUnauthorized: true });
  expect(resolveOptions({ brokers: "localhost", ssl: false }).ssl).toBeUndefined();
});

test.each<[string, Partial<Record<keyof KafkaOptions, unknown>> | Record<string, unknown>]>([
  ["no brokers", {}],
  ["an empty list of brokers", { brokers: [] }],
  ["a URL with a password", { brokers: `kafka://ada:${CANARY}@localhost:9092` }],
  ["a port that is none", { brokers: "localhost:99999" }],
  ["an unknown option", { sesionTimeoutMs: 3 }],
  ["an empty clientId", { clientId: "" }],
  ["certificates not verified", { ssl: { rejectUnauthorized: false } }],
  ["an unknown mechanism", { sasl: { mechanism: "constructor", username: "ada", password: CANARY } }],
  [
    "a mechanism that is no text",
    { sasl: { mechanism: Object.create(null), username: "ada", password: CANARY } as never },
  ],
  ["a password without a username", { sasl: { mechanism: "plain", password: CANARY } }],
  ["a misspelt part of sasl", { sasl: { mechanism: "plain", username: "ada", password: CANARY, pasword: CANARY } }],
  ["a token instead of its provider", { sasl: { mechanism: "oauthbearer", oauthBearerProvider: CANARY } }],
  ["backoff bounds in the wrong order", { reconnect: { firstMs: 100, maxMs: 10 } }],
  ["no partitions", { partitions: 0 }],
  ["half a replica", { replicationFactor: 0.5 }],
  ["a retention of nothing", { retentionMs: 0 }],
  ["a compression that Kafka does not have", { compression: "brotli" }],
  ["a body over 64 MiB", { maxMessageBytes: 2 ** 26 + 1 }],
  [
    "bodies that inflate to more than is read",
    { compression: "gzip", maxMessageBytes: 1_000, maxInflatedBytes: 100_000 },
  ],
  [
    "topics that compress bodies which inflate to more than is read",
    { topicConfiguration: { "compression.type": "gzip" }, maxInflatedBytes: 1_000_000 },
  ],
  ["a topic configuration of ours", { topicConfiguration: { "cleanup.policy": "compact" } }],
  ["a topic configuration that is no text", { topicConfiguration: { "segment.bytes": 1_000 } }],
  ["a trim that is neither", { trim: "yes" }],
  ["a third way with what cannot be read", { unreadable: "skip" }],
  ["batches of nothing", { maxInflatedBytes: 0 }],
])("refuses %s, without the password", (what, given) => {
  const options = { ...(what.includes("brokers") ? {} : { brokers: "localhost" }), ...given } as KafkaOptions;
  expect(refusal(options)).not.toContain(CANARY);
});
