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
    host: "rabbit.example",
    port: 5699,
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
    port: 5000,
    username: "guest",
    tls: undefined,
    heartbeatSeconds: 10,
  });
  expect(resolveOptions({ tls: {} }).port).toBe(5671);
  expect(resolveOptions({ managementUrl: "https://localhost:15671/rabbit/" }).managementUrl).toBe(
    "https://localhost:15671/rabbit",
  );
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
  ["a password alone", { password: CANARY }],
  ["certificates not verified", { url: `amqps://ada:${CANARY}@localhost`, tls: { rejectUnauthorized: false } }],
  ["tls options for a plain connection", { url: `amqp://ada:${CANARY}@localhost`, tls: {} }],
  ["a management URL with a login", { managementUrl: `https://ada:${CANARY}@localhost:15671` }],
  ["a management URL of another protocol", { managementUrl: "amqp://localhost" }],
  ["a consumer timeout of nothing", { consumerTimeoutMs: 10 }],
  ["a heartbeat of nothing", { heartbeatSeconds: 0 }],
  ["a queue argument of ours", { queueArguments: { "x-delivery-limit": 3 } }],
  ["backoff bounds in the wrong order", { reconnect: { firstMs: 100, maxMs: 10 } }],
])("refuses %s, without the password", (_what, options) => {
  expect(refusal(options)).not.toContain(CANARY);
});
