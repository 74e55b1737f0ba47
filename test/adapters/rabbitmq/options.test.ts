import { expect, test } from "vitest";
import { type RabbitMQOptions, resolveOptions } from "../../../adapters/rabbitmq/options.ts";
import { isMessagingError } from "../../../core/errors.ts";

const CANARY = "canary-password";

function refusal(options: RabbitMQOptions): string {
  try {
    resolveOptions(options);
  } catch (error) {
    if (isMessagingError(error, "invalid")) return `${error.message} ${error.stack}`;
    throw error;
  }
  throw new Error("was not refused");
}

test("a URL gives everything, decoded", () => {
  expect(resolveOptions({ url: `amqps://ada:${CANARY}%2F@rabbit.example:5699/a%2Fb` })).toMatchObject({
    hosts: [{ host: "rabbit.example", port: 5699 }],
    username: "ada",
    password: `${CANARY}/`,
    vhost: "a/b",
    tls: {},
  });
});

test("options come before the URL, and defaults after both", () => {
  const settings = resolveOptions({ url: "amqp://localhost", vhost: "shop", port: 5000 });
  expect(settings).toMatchObject({
    vhost: "shop",
    hosts: [{ host: "localhost", port: 5000 }],
    username: "guest",
    tls: undefined,
    heartbeatSeconds: 10,
  });
  expect(resolveOptions({ tls: {} }).hosts).toEqual([{ host: "localhost", port: 5671 }]);
  expect(resolveOptions({ managementUrl: "https://localhost:15671/rabbit/" }).managementUrl).toBe(
    "https://localhost:15671/rabbit",
  );
});

test("several hosts, in a URL or as an option, each with its port", () => {
  const login = { username: "ada", password: CANARY };
  const hostsOf = (options: RabbitMQOptions) =>
    resolveOptions(options).hosts.map(({ host, port }) => `${host} ${port}`);
  expect(hostsOf({ url: `amqp://ada:${CANARY}@a,b.example:5673,[::1]:5674/shop` })).toEqual([
    "a 5672",
    "b.example 5673",
    "::1 5674",
  ]);
  expect(resolveOptions({ url: `amqp://ada:${CANARY}@a,b/a%2Fb` })).toMatchObject({ ...login, vhost: "a/b" });
  expect(hostsOf({ url: "amqps://a,b:1", ...login })).toEqual(["a 5671", "b 1"]);
  expect(hostsOf({ host: ["a", "b:5673", "::1", "[::1]:7"], port: 6000, ...login })).toEqual([
    "a 6000",
    "b 5673",
    "::1 6000",
    "::1 7",
  ]);
  expect(hostsOf({ host: "127.0.0.1", url: "amqp://localhost:5699" })).toEqual(["127.0.0.1 5699"]);
  expect(refusal({ host: ["localhost", "rabbit.example"] })).toContain('credentials for host "rabbit.example"');
});

test("a password may be a function's to give", () => {
  const password = () => CANARY;
  expect(resolveOptions({ url: "amqp://ada@rabbit.example", password }).password).toBe(password);
});

test.each<RabbitMQOptions>([{ host: "rabbit.example" }, { url: "amqp://rabbit.example/shop" }])(
  "no guest away from this machine: %j",
  (options) => {
    expect(refusal(options)).toContain("credentials");
  },
);

test.each<[string, RabbitMQOptions]>([
  ["an unknown option", { hearbeat: 3 } as RabbitMQOptions],
  ["another protocol", { url: `http://ada:${CANARY}@localhost` }],
  ["a malformed URL", { url: `amqp://ada:${CANARY}@:x` }],
  ["a malformed percent code", { url: `amqp://ada:${CANARY}%zz@localhost` }],
  ["parameters in the URL", { url: `amqp://ada:${CANARY}@localhost?heartbeat=3` }],
  ["a host that is none", { url: `amqp://ada:${CANARY}@a,,b/shop` }],
  ["a port that is none", { url: `amqp://ada:${CANARY}@a,b:x/shop` }],
  ["no host at all", { host: [] }],
  ["a host with a path", { host: `a/${CANARY}` }],
  ["a password that is no text", { username: "ada", password: 5 as unknown as string }],
  ["a password alone", { password: CANARY }],
  ["certificates not verified", { url: `amqps://ada:${CANARY}@localhost`, tls: { rejectUnauthorized: false } }],
  ["tls options for a plain connection", { url: `amqp://ada:${CANARY}@localhost`, tls: {} }],
  ["a management URL with a login", { managementUrl: `https://ada:${CANARY}@localhost:15671` }],
  ["a management URL of another protocol", { managementUrl: "amqp://localhost" }],
  ["a consumer timeout of nothing", { consumerTimeoutMs: 10 }],
  ["a heartbeat of nothing", { heartbeatSeconds: 0 }],
  ["a queue argument of ours", { queueArguments: { "x-delivery-limit": 3 } }],
  ["a queue argument with a long name", { queueArguments: { ["x".repeat(256)]: 1 } }],
  ["a queue argument that is no number", { queueArguments: { "x-max-length": Number.NaN } }],
  ["a queue argument without an end", { queueArguments: { "x-max-length": Number.POSITIVE_INFINITY } }],
  ["queue arguments that are too long", { queueArguments: { "x-any": "x".repeat(40_000) } }],
  ["queue arguments that are a list", { queueArguments: ["x"] as never }],
  ["queue arguments that are a text", { queueArguments: "abc" as never }],
  ["a long virtual host", { vhost: "ü".repeat(128) }],
  ["a long virtual host in a URL", { url: `amqp://ada:${CANARY}@localhost/${"v".repeat(256)}` }],
  ["half a character in a virtual host", { vhost: "a\ud800" }],
  ["a long connection name", { connectionName: "c".repeat(256) }],
  ["backoff bounds in the wrong order", { reconnect: { firstMs: 100, maxMs: 10 } }],
])("refuses %s, without the password", (_what, options) => {
  expect(refusal(options)).not.toContain(CANARY);
});
