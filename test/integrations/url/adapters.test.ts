import { createBroker, queue } from "anybroker";
import { kafka } from "anybroker/kafka";
import { memory, memorySpace } from "anybroker/memory";
import { rabbitmq } from "anybroker/rabbitmq";
import { sqs } from "anybroker/sqs";
import { fromUrl, type UrlOptions } from "anybroker/url";
import { describe, expect, test } from "vitest";
import { isMessagingError } from "../../../core/errors.ts";
import { BROKERS } from "../../../integrations/url/from-url.ts";
import { notLoaded, type Parameter } from "../../../integrations/url/query.ts";

type Values = Readonly<Record<string, unknown>>;

/** The adapters with whatever options, and what each needs beside them. */
const ADAPTERS: Readonly<Record<keyof UrlOptions, (values: Values) => unknown>> = {
  memory: (values) => memory(values),
  rabbitmq: (values) => rabbitmq(values),
  kafka: (values) => kafka({ brokers: "localhost", ...values }),
  sqs: (values) => sqs(values),
};

test.for([
  ["memory:?leaseMs=1000", "memory"],
  ["amqp://ann:secret@rabbit.example/shop?deliveryLimit=5", "rabbitmq"],
  ["kafka+ssl://ann:secret@a:9092,b:9092?sasl.mechanism=scram-sha-256&compression=gzip", "kafka"],
  ["sqs://any:any@us-east-1?endpoint=http://localhost:4566&queueAttributes.KmsMasterKeyId=alias/orders", "sqs"],
] as const)("%s is an adapter", async ([url, name]) => {
  expect((await fromUrl(url)).name).toBe(name);
});

test("brokers share what is on the space that they are given, and nothing otherwise", async () => {
  const orders = queue<string>("orders");
  const space = memorySpace();
  const [sender, receiver, stranger] = await Promise.all(
    [{ memory: { space } }, { memory: { space } }, {}].map(async (own) => createBroker(await fromUrl("memory:", own))),
  );
  const received = Promise.withResolvers<string>();
  receiver?.consume(orders, (order) => received.resolve(order));
  await Promise.all([sender?.start(), receiver?.start(), stranger?.start()]);
  await sender?.send(orders, "o-1");
  expect(await received.promise).toBe("o-1");
  expect(isMessagingError(await stranger?.depth(orders).catch((error: unknown) => error), "not-found")).toBe(true);
  await Promise.all([sender?.stop(), receiver?.stop(), stranger?.stop()]);
});

describe.for(Object.values(BROKERS))("the options of $name", ({ name, parameters }) => {
  const make = ADAPTERS[name];
  const flat = flattened(parameters);

  test("have their place, each of them", () => {
    expect(() => make({ "not-an-option": 1 })).toThrow(/it takes /);
    const [, list = ""] = /it takes (.+)$/.exec(refusal(() => make({ "not-an-option": 1 }))) ?? [];
    expect(Object.keys(parameters).sort()).toEqual(list.split(", ").sort());
  });

  test.for(flat.filter(({ parameter }) => parameter.kind === "integer"))(
    "$path is within the adapter's own bounds, and no narrower",
    ({ path, parameter }) => {
      if (parameter.kind !== "integer") return;
      const { least, most, also } = parameter;
      for (const value of [least, most, ...(also === undefined ? [] : [also])]) {
        expect(() => make(nested(path, value))).not.toThrow();
      }
      for (const value of [least - 1, most + 1]) expect(refusal(() => make(nested(path, value)))).toContain("integer");
    },
  );

  test("choices are the adapter's own", () => {
    for (const { path, parameter } of flat) {
      if (parameter.kind !== "choice") continue;
      const values = (value: string) => nested(path, value, { username: "ann", password: "secret" });
      const others = path.startsWith("sasl.")
        ? (value: string) => values(value)
        : (value: string) => nested(path, value);
      for (const value of parameter.of) expect(() => make(others(value))).not.toThrow();
      const refused = refusal(() => make(others("not-a-choice")));
      for (const value of parameter.of) expect(refused).toContain(value);
    }
  });

  test("flags and texts are the adapter's own", () => {
    const http = "http://localhost";
    const right: Readonly<Record<string, unknown>> = { endpoint: http, snsEndpoint: http, managementUrl: http };
    for (const { path, parameter } of flat) {
      if (parameter.kind === "flag") {
        expect(() => make(nested(path, false))).not.toThrow();
        expect(() => make(nested(path, 5))).toThrow(`as ${path}`);
      }
      if (parameter.kind === "text") {
        expect(() => make(nested(path, right[path] ?? "text"))).not.toThrow();
        expect(() => make(nested(path, 5))).toThrow(`as ${path}`);
      }
      if (parameter.kind === "names") {
        expect(() =>
          make({ [path]: { some: "text", ...(parameter.each.kind === "scalar" ? { n: 5 } : {}) } }),
        ).not.toThrow();
        expect(() => make({ [path]: { some: parameter.each.kind === "scalar" ? {} : 5 } })).toThrow("some");
      }
    }
  });
});

/** The options that can be written, those within others with their path. */
function flattened(parameters: Readonly<Record<string, Parameter>>): { path: string; parameter: Parameter }[] {
  return Object.entries(parameters).flatMap(([name, parameter]) =>
    parameter.kind === "parts"
      ? flattened(parameter.of).map((part) => ({ ...part, path: `${name}.${part.path}` }))
      : [{ path: name, parameter }],
  );
}

/** Options that hold one value at a path. Waits between attempts have a first one that is no bound for the longest. */
function nested(
  path: string,
  value: unknown,
  beside: object = path === "reconnect.maxMs" ? { firstMs: 1 } : {},
): Values {
  const [name = "", part] = path.split(".");
  return { [name]: part === undefined ? value : { ...beside, [part]: value } };
}

function refusal(make: () => unknown): string {
  try {
    make();
  } catch (error) {
    if (isMessagingError(error, "invalid")) return error.message;
    throw error;
  }
  throw new Error("was not refused");
}

describe("a client that cannot be loaded", () => {
  const missing = (text: string, code = "ERR_MODULE_NOT_FOUND") => Object.assign(new Error(text), { code });

  test.for([
    ["a package", missing("Cannot find package 'amqplib' imported from /app/wire.js"), "the package amqplib,"],
    ["a file of it", missing("Cannot find module 'amqplib/lib/x.js'", "MODULE_NOT_FOUND"), "the package amqplib,"],
    [
      "the second of two",
      missing("Cannot find package '@aws-sdk/client-sns' imported"),
      "the package @aws-sdk/client-sns,",
    ],
    ["what the client needs itself", missing("Cannot find package 'buffer-more-ints' imported"), "see the cause"],
    ["something else", new Error("'amqplib' is broken"), "see the cause"],
    ["what is no error", "amqplib", "see the cause"],
  ] as const)("is named: %s", ([, cause, told]) => {
    const error = notLoaded("fromUrl()", ["amqplib@^2.3.1", "@aws-sdk/client-sns"], cause);
    expect(error.code).toBe("unsupported");
    expect(error.message).toContain(told);
    expect(error.message).toContain("npm install amqplib@^2.3.1 @aws-sdk/client-sns");
    expect(error.cause).toBe(cause);
  });
});
