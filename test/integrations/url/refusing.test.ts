import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { memorySpace } from "../../../adapters/memory/index.ts";
import { isMessagingError } from "../../../core/errors.ts";
import { BROKERS } from "../../../integrations/url/from-url.ts";
import { fromUrl, type UrlOptions } from "../../../integrations/url/index.ts";
import { nearest, writtenNames } from "../../../integrations/url/query.ts";
import { refusalOf, toldBy } from "./reading.ts";

const EVERY_FORM = /memory: or amqp:\/\/.* or kafka:\/\/.* or sqs:\/\//;

test.for([undefined, "", null, 5])("no URL is refused: %s", (url) => {
  expect(refusalOf(url as string)).toMatch(EVERY_FORM);
  expect(refusalOf(url as string)).toContain("check the environment variable");
});

test.for([
  ["localhost", "without a scheme"],
  ["//localhost", "without a scheme"],
  ["localhost:5672", '"//"'],
  ["amqp:localhost", '"//"'],
  ["memory:orders", '"//"'],
  [" memory:", "white space"],
  ["amqp://localhost\n", "white space"],
] as const)("%s is refused, with what to write", ([url, reason]) => {
  expect(refusalOf(url)).toContain(reason);
  expect(refusalOf(url)).toMatch(EVERY_FORM);
});

test.for([
  ["smtp://localhost", "knows no scheme smtp:; it knows memory:, amqp:, amqps:, kafka:, kafka+ssl:, sqs:"],
  ["kafkas://localhost", "no scheme kafkas: (did you mean kafka:?); it knows memory:"],
  ["amqpx://localhost", "did you mean amqp:?"],
  ["memry:", "did you mean memory:?"],
  ["memory://orders", "{ memory: { space } }"],
  ["memory://ann:secret@", "only options"],
  ["memory:?space=5", "space is an object of this process"],
  ["memory:?leaseMs=0", "takes an integer from 1 up as leaseMs"],
  ["memory:?leaseMs=1.5", "takes an integer from 1 up as leaseMs"],
  ["memory:?leaseMs=+1", "takes an integer from 1 up as leaseMs"],
  ["memory:?leaseMs=01", "takes an integer from 1 up as leaseMs"],
  ["memory:?leaseMs=1e3", "takes an integer from 1 up as leaseMs"],
  ["memory:?leaseMs=9007199254740993", "takes an integer from 1 up as leaseMs"],
  ["memory:?leaseMs", "takes an integer from 1 up as leaseMs"],
  ["memory:?leaseMs=1&leaseMs=2", "got leaseMs twice"],
  ["memory:?leasMs=1", 'has no option "leasMs" (did you mean leaseMs?); it takes leaseMs, maxMessages'],
  ["memory:?leaseMs=%zz", "malformed percent-encoding"],
  ["memory:?%00=1", "not the name of an option"],
  ["amqp://localhost?heartbeat=5", "(did you mean heartbeatSeconds?)"],
  ["amqp://localhost?connection_timeout=5", "(did you mean connectTimeoutMs?)"],
  ["amqp://localhost?heartbeatSeconds=61", "takes an integer from 1 to 60 as heartbeatSeconds"],
  ["amqp://localhost?password=secret", "takes no password in its query: write amqp://user:password@host:5672/vhost"],
  ["amqp://localhost?tls=true", "takes no tls in its query: use amqps: for TLS"],
  ["amqp://localhost?reconnect=5", "takes its parts, such as .firstMs and .maxMs as reconnect"],
  ["amqp://localhost?reconnect.first=5", "(did you mean reconnect.firstMs?)"],
  ["amqp://localhost?queueArguments=5", "takes a name after a dot, as in .name=value as queueArguments"],
  ["amqp://localhost?connectionName=a&S3CR3T", "got an unknown option without a value"],
  ["amqp://localhost?queueArguments.=5", 'has no option "queueArguments."'],
  ["amqp://localhost?queueArguments.x=", "takes a text that is not empty as queueArguments.x"],
  ["amqp://localhost?connectionName=", "takes a text that is not empty as connectionName"],
  ["amqp://ann:se/cret@localhost", "encodeURIComponent"],
  ["amqp://ann:se?cret@localhost", "encodeURIComponent"],
  ["amqp://ann:se#cret@localhost", "encodeURIComponent"],
  ["amqp://ann:se@cret@localhost", "encodeURIComponent"],
  ["amqp://ann:se%cret@localhost", "encodeURIComponent"],
  ["kafka://a/orders", "name topics"],
  ["kafka://ann@a", "needs both a user and a password"],
  ["kafka://ann:@a", "needs both a user and a password"],
  ["kafka://:secret@a", "needs both a user and a password"],
  ["kafka://a?sasl.mechanism=plain", "needs user:password@"],
  ["kafka://ann:secret@a?sasl.mechanism=aws", "takes one of plain, scram-sha-256, scram-sha-512 as sasl.mechanism"],
  ["kafka+ssl://a?ssl=false", "takes no ssl=false"],
  ["kafka://a?ssl=1", "takes true or false as ssl"],
  ["kafka://a?retentionMs=0", "takes an integer from 1 up, or -1 as retentionMs"],
  ["kafka://a?compression=lzma", "takes one of none, gzip, snappy, lz4, zstd as compression"],
  ["kafka://a?brokers=b", "brokers are the hosts of the URL"],
  ["sqs://localhost:4566", "write another server as ?endpoint="],
  ["sqs://eu-central-1/orders", "name queues"],
  ["sqs://AKIA@eu-central-1", "needs both an access key id and a secret access key"],
  ["sqs:?region=eu-central-1", "takes no region in its query: it is the host of the URL"],
  ["sqs:?visibilityTimeout=10000", "(did you mean visibilityTimeoutMs?)"],
] as const)("%s is refused: %s", ([url, reason]) => {
  expect(refusalOf(url)).toContain(reason);
});

test("all problems of a query are told at once, and the known options once", () => {
  const told = refusalOf("kafka://a?trin=true&partitions=0&ssl=on&sesionTimeoutMs=1&brokers=b");
  for (const name of ["trin", "partitions", "ssl", "sesionTimeoutMs", "brokers"]) expect(told).toContain(name);
  expect(told.match(/it takes/g)).toHaveLength(1);
});

test.for<[unknown, string]>([
  [{ kafak: {} }, 'fromUrl() has no option "kafak"'],
  [null, "takes its options as an object"],
  [{ memory: { leasMs: 5 } }, 'fromUrl() { memory } has no option "leasMs"'],
  [{ memory: 5 }, "fromUrl() { memory } takes its options as an object"],
])("options of the program are checked: %j", ([own, reason]) => {
  expect(refusalOf("memory:", own as UrlOptions)).toContain(reason);
});

test.for([
  ["kafka://", "kafka() takes brokers"],
  ["kafka://a:0", "kafka() takes brokers"],
  ["kafka://a?topicConfiguration.cleanup.policy=compact", "cleanup.policy"],
  ["amqp://rabbit.example", "needs credentials"],
  ["amqp://localhost:x", "takes a url such as"],
  ["sqs:?visibilityTimeoutMs=1500", "whole seconds"],
  ["sqs:?endpoint=localhost", "takes a URL such as"],
] as const)("%s is refused by the adapter itself", async ([url, reason]) => {
  const refused = await fromUrl(url).catch((error: unknown) => error);
  expect(isMessagingError(refused, "invalid")).toBe(true);
  expect(String(refused)).toContain(reason);
});

test("a space has its own bound, so the URL's is refused beside it", async () => {
  const refused = await fromUrl("memory:?maxMessages=5", { memory: { space: memorySpace() } }).catch((error) => error);
  expect(isMessagingError(refused, "invalid")).toBe(true);
});

describe("a password", () => {
  const CANARY = "canary7531";
  const odd = fc.string({ unit: fc.constantFrom(..."/?#@&=:%. x"), maxLength: 3 });
  const password = fc.tuple(odd, odd).map(([before, after]) => `${before}${CANARY}${after}`);
  const scheme = fc.constantFrom("amqp", "amqps", "kafka", "kafka+ssl", "sqs", "memory", "kafak", "http");
  const host = fc.constantFrom("localhost", "a,b", "us-east-1", "");
  const rest = fc.constantFrom(
    "",
    "/",
    "/vhost",
    ":0",
    ":x",
    "?partitions=0",
    "?nope=1",
    "/a?ssl=on&ssl=on",
    "#a",
    ",b:x",
  );

  test("is in no error, whatever it looks like and whatever is wrong", async () => {
    const encodings = [(text: string) => text, encodeURIComponent];
    await fc.assert(
      fc.asyncProperty(scheme, password, fc.constantFrom(...encodings), host, rest, async (...values) => {
        const [name, secret, encode, at, behind] = values;
        const refused = await fromUrl(`${name}://ann:${encode(secret)}@${at}${behind}`).catch((error) => error);
        if (!(refused instanceof Error)) return;
        expect(isMessagingError(refused)).toBe(true);
        expect(toldBy(refused)).not.toContain(CANARY);
      }),
      { numRuns: 1_500 },
    );
  });

  test.for([
    `amqp://localhost?password=${CANARY}`,
    `kafka://a?sasl.password=${CANARY}`,
    `kafka://a?partitions=${CANARY}&compression=${CANARY}&ssl=${CANARY}`,
    `sqs:?endpoint=http://ann:${CANARY}@localhost`,
    `sqs:?endpoint=http%3A%2F%2Fann%3A${CANARY}%40localhost`,
    `ann:${CANARY}@localhost:5672`,
    `${CANARY}@localhost:5672`,
  ])("is in no error when it stands in the wrong place: %s", async (url) => {
    const refused = await fromUrl(url).catch((error: unknown) => error);
    expect(isMessagingError(refused, "invalid")).toBe(true);
    expect(toldBy(refused)).not.toContain(CANARY);
  });
});

test("whatever is given leads to an adapter or to a MessagingError", async () => {
  const pieces = fc.constantFrom(
    "memory:",
    "kafka:",
    "sqs:",
    "//",
    "a",
    ":",
    "@",
    "?",
    "leaseMs",
    "=",
    "5",
    "&",
    "%",
    ".",
  );
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(
        fc.array(pieces).map((list) => list.join("")),
        fc.string(),
      ),
      async (url) => {
        const result = await fromUrl(url).catch((error: unknown) => error);
        expect(isMessagingError(result, "invalid") || ["memory", "kafka", "sqs"].includes(nameOf(result))).toBe(true);
      },
    ),
  );
});

function nameOf(result: unknown): string {
  return (result as { readonly name: string }).name;
}

describe("the option that was meant", () => {
  const names = Object.values(BROKERS).map(({ parameters }) =>
    writtenNames(parameters).filter((name) => !name.endsWith("…")),
  );

  test("is found behind any one slip of the pen", () => {
    const slip = fc.constantFrom<(name: string, at: number) => string>(
      (name, at) => name.slice(0, at) + name.slice(at + 1),
      (name, at) => `${name.slice(0, at)}q${name.slice(at)}`,
      (name, at) => `${name.slice(0, at)}q${name.slice(at + 1)}`,
      (name, at) =>
        name.slice(0, at) +
        name
          .slice(at, at + 2)
          .split("")
          .reverse()
          .join("") +
        name.slice(at + 2),
    );
    for (const known of names) {
      fc.assert(
        fc.property(fc.constantFrom(...known), slip, fc.nat(), (name, slipped, at) => {
          expect(nearest(slipped(name, at % name.length), known)).toBe(name);
        }),
      );
    }
  });

  test.for([
    ["session_timeout_ms", "sessionTimeoutMs"],
    ["SESSIONTIMEOUTMS", "sessionTimeoutMs"],
    ["session-timeout", "sessionTimeoutMs"],
    ["replicas", undefined],
    ["x", undefined],
    ["", undefined],
  ] as const)("%s is %s", ([given, meant]) => {
    expect(nearest(given, names[2] ?? [])).toBe(meant);
  });
});
