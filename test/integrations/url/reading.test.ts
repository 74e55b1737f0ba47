import fc from "fast-check";
import { expect, test } from "vitest";
import type { UrlOptions } from "../../../integrations/url/index.ts";
import { optionsOf, refusalOf } from "./reading.ts";

test.for<readonly [url: string, broker: string, options: object]>([
  ["memory:", "memory", {}],
  ["memory://", "memory", {}],
  ["memory:?leaseMs=500&maxMessages=20", "memory", { leaseMs: 500, maxMessages: 20 }],
  ["amqp://localhost", "rabbitmq", { url: "amqp://localhost" }],
  [
    "amqps://ann:se%40cret@rabbit.example:5671/a%2Fb?heartbeatSeconds=5&connectionName=shop",
    "rabbitmq",
    { url: "amqps://ann:se%40cret@rabbit.example:5671/a%2Fb", heartbeatSeconds: 5, connectionName: "shop" },
  ],
  [
    "amqp://localhost?queueArguments.x-quorum-initial-group-size=5&queueArguments.x-queue-leader-locator=balanced&queueArguments.x-odd=true&queueArguments.x-agent=007",
    "rabbitmq",
    {
      url: "amqp://localhost",
      queueArguments: {
        "x-quorum-initial-group-size": 5,
        "x-queue-leader-locator": "balanced",
        "x-odd": true,
        "x-agent": "007",
      },
    },
  ],
  ["kafka://a", "kafka", { brokers: "a" }],
  ["KAFKA://a:9092,[::1]:9093/", "kafka", { brokers: "a:9092,[::1]:9093" }],
  ["kafka+ssl://a", "kafka", { brokers: "a", ssl: true }],
  ["kafka+ssl://a?ssl=true", "kafka", { brokers: "a", ssl: true }],
  ["kafka://a?ssl=false", "kafka", { brokers: "a", ssl: false }],
  [
    "kafka://ann:se%2Fcret@a,b",
    "kafka",
    { brokers: "a,b", sasl: { mechanism: "plain", username: "ann", password: "se/cret" } },
  ],
  [
    "kafka://ann:secret@a?sasl.mechanism=scram-sha-512",
    "kafka",
    { brokers: "a", sasl: { mechanism: "scram-sha-512", username: "ann", password: "secret" } },
  ],
  [
    "kafka://a?topicConfiguration.segment.bytes=104857600&reconnect.firstMs=50&reconnect.maxMs=900&trim=never&retentionMs=-1",
    "kafka",
    {
      brokers: "a",
      topicConfiguration: { "segment.bytes": "104857600" },
      reconnect: { firstMs: 50, maxMs: 900 },
      trim: "never",
      retentionMs: -1,
    },
  ],
  ["sqs:", "sqs", {}],
  ["sqs://", "sqs", {}],
  [
    "sqs://eu-central-1?endpoint=http%3A%2F%2Flocalhost%3A4566&queueAttributes.KmsMasterKeyId=alias/orders",
    "sqs",
    {
      region: "eu-central-1",
      endpoint: "http://localhost:4566",
      queueAttributes: { KmsMasterKeyId: "alias/orders" },
    },
  ],
  [
    "sqs://AKIA:a%2Fb%2Bc@eu-central-1?endpoint=http://localhost:4566",
    "sqs",
    {
      region: "eu-central-1",
      endpoint: "http://localhost:4566",
      credentials: { accessKeyId: "AKIA", secretAccessKey: "a/b+c" },
    },
  ],
])("%s", ([url, broker, options]) => {
  expect(optionsOf(url)).toEqual({ broker, options });
});

test("what the program says comes before the URL", () => {
  const own: UrlOptions = {
    kafka: { sessionTimeoutMs: 6_000, brokers: ["b:1"], sasl: { mechanism: "plain", username: "u", password: "p" } },
    sqs: { visibilityTimeoutMs: 10_000 },
  };
  const { options } = optionsOf("kafka://ann:secret@a?sessionTimeoutMs=9000&partitions=2", own);
  expect(options).toEqual({ ...own.kafka, partitions: 2 });
  expect(optionsOf("sqs:?waitSeconds=1", own).options).toEqual({ visibilityTimeoutMs: 10_000, waitSeconds: 1 });
  expect(optionsOf("memory:?leaseMs=4", own).options).toEqual({ leaseMs: 4 });
});

test("an option that is undefined is none", () => {
  const own = { kafka: { ssl: undefined } } as unknown as UrlOptions;
  expect(optionsOf("kafka+ssl://a", own).options).toEqual({ brokers: "a", ssl: true });
});

test("names that are JavaScript's own are names", () => {
  const { options } = optionsOf("kafka://a?topicConfiguration.__proto__=1&topicConfiguration.constructor=2");
  const { topicConfiguration } = options as { topicConfiguration: object };
  expect(Object.entries(topicConfiguration)).toEqual([
    ["__proto__", "1"],
    ["constructor", "2"],
  ]);
  for (const name of ["__proto__", "constructor", "toString", "reconnect.constructor", "sasl.__proto__"]) {
    expect(refusalOf(`kafka://a?${name}=1`)).toContain("it takes clientId");
  }
});

test("whatever stands before the host comes out as it went in", () => {
  const name = fc.string({ unit: "grapheme", minLength: 1 });
  fc.assert(
    fc.property(name, name, (username, password) => {
      const before = `${encodeURIComponent(username)}:${encodeURIComponent(password)}@`;
      expect(optionsOf(`kafka://${before}a,b?partitions=3`).options).toEqual({
        brokers: "a,b",
        partitions: 3,
        sasl: { mechanism: "plain", username, password },
      });
      expect(optionsOf(`sqs://${before}eu-central-1`).options).toEqual({
        region: "eu-central-1",
        credentials: { accessKeyId: username, secretAccessKey: password },
      });
    }),
  );
});

test("whatever stands in the query comes out as it went in", () => {
  const text = fc.string({ unit: "grapheme", minLength: 1 });
  const trims = fc.constantFrom("shared", "exclusive", "never");
  fc.assert(
    fc.property(text, trims, fc.integer({ min: 1, max: 10_000 }), fc.dictionary(text, text), (...values) => {
      const [clientId, trim, partitions, configuration] = values;
      const query = new URLSearchParams({ clientId, trim, partitions: `${partitions}` });
      for (const [name, value] of Object.entries(configuration)) query.set(`topicConfiguration.${name}`, value);
      const { options } = optionsOf(`kafka://a?${query}`);
      const { topicConfiguration = {}, ...others } = options as { readonly topicConfiguration?: object };
      expect(others).toEqual({ brokers: "a", clientId, trim, partitions });
      expect(Object.entries(topicConfiguration).sort()).toEqual(Object.entries(configuration).sort());
    }),
  );
});
