import fc from "fast-check";
import { expect, test } from "vitest";
import { fromWire, toWire } from "../../../adapters/rabbitmq/message-codec.ts";
import type { MessageHeaders } from "../../../core/delivery.ts";

const special = fc.constantFrom(
  "__proto__",
  "constructor",
  "hasOwnProperty",
  "CC",
  "BCC",
  "x-death",
  "x-first-death-queue",
  "x-last-death-reason",
  "x-delivery-count",
  "x-acquired-count",
  "x-opt-anything",
  "x-request-id",
  "anybroker-header-x",
  "anybroker-header-anybroker-header-CC",
  "anybroker-header-anybroker-twin",
  "anybroker-key",
  "anybroker-routing-key",
  "anybroker-user-id",
  "anybroker-twin",
  "ключ",
  "",
);
const headers = fc
  .array(fc.tuple(fc.oneof(special, fc.string({ maxLength: 20 })), fc.string({ unit: "grapheme" })), { maxLength: 8 })
  .map((entries) => bare(entries));

function bare(entries: readonly (readonly [string, string])[]): MessageHeaders {
  const made = Object.create(null) as Record<string, string>;
  for (const [name, value] of entries) made[name] = value;
  return made;
}

/** What amqplib does with a decoded table: it assigns into a plain object. */
function throughAmqplib(wire: Record<string, unknown> | undefined): Record<string, unknown> {
  const decoded: Record<string, unknown> = {};
  for (const name in wire) decoded[name] = wire[name];
  return decoded;
}

test("headers, key and routing key come back equal, as own keys without a prototype", () => {
  const optional = fc.option(fc.string(), { nil: undefined });
  fc.assert(
    fc.property(headers, optional, optional, (given, key, routingKey) => {
      const back = fromWire(throughAmqplib(toWire(given, key, routingKey)));
      expect(Object.getPrototypeOf(back.headers)).toBeNull();
      expect(Object.entries(back.headers).sort()).toEqual(Object.entries(given).sort());
      expect(back.key).toBe(key);
      expect(back.routingKey).toBe(routingKey);
    }),
  );
});

test("without headers, key and routing key there is no table on the wire", () => {
  expect(toWire(bare([]), undefined, undefined)).toBeUndefined();
});

test("what RabbitMQ wrote itself is left out, so that a copy does not carry it on", () => {
  const back = fromWire({
    "x-death": [{ reason: "expired" }],
    "x-delivery-count": 3,
    "x-first-death-queue": "q",
    own: "kept",
  });
  expect({ ...back.headers }).toEqual({ own: "kept" });
});

test("a sender gives a copy none of the adapter's own headers: what is read is sent under the same name", () => {
  const names = ["twin", "key", "routing-key", "user-id"].map((own) => `anybroker-header-anybroker-${own}`);
  const given = [...names, "anybroker-header-tenant", "anybroker-header-anybroker-header-CC"];
  const wire = Object.fromEntries(given.map((name) => [name, "zzz"]));
  const { headers, key, routingKey, user } = fromWire(wire);
  expect([key, routingKey, user]).toEqual([undefined, undefined, undefined]);
  expect({ ...toWire(headers, undefined, undefined) }).toEqual(wire);
});

test("values of other senders become text", () => {
  const back = fromWire({
    number: 4.5,
    flag: true,
    bytes: Buffer.from([1, 2, 255]),
    time: { "!": "timestamp", value: 1_700_000_000 },
    price: { "!": "decimal", value: { places: 2, digits: 1999 } },
    table: { inner: { list: [1, "two", null] } },
    nothing: null,
  });
  expect({ ...back.headers }).toEqual({
    number: "4.5",
    flag: "true",
    bytes: "AQL/",
    time: "2023-11-14T22:13:20.000Z",
    price: "19.99",
    table: '{"inner":{"list":[1,"two",null]}}',
  });
});

test("a table of another sender is cut off in depth and length", () => {
  let deep: unknown = "bottom";
  for (let level = 0; level < 1_000; level++) deep = { deep };
  const back = fromWire({ deep, long: Array.from({ length: 10_000 }, () => "0123456789") });
  expect(back.headers.deep).not.toContain("bottom");
  expect(back.headers.long).toHaveLength(4096);
});

test("what only looks like a timestamp, a decimal or a number is no reason to fail", () => {
  const trap = { toString: 1, valueOf: 1 };
  let deep: unknown = [];
  for (let level = 0; level < 20_000; level++) deep = [deep];
  const back = fromWire({
    time: { "!": "timestamp", value: trap },
    deepTime: { "!": "timestamp", value: deep },
    never: { "!": "timestamp", value: Number.NaN },
    price: { "!": "decimal", value: { places: trap, digits: deep } },
    noPrice: { "!": "decimal", value: null },
    other: { "!": trap },
    table: { toString: 1, toJSON: 1, ["__proto__"]: trap },
    large: 2n ** 60n,
    huge: Number.POSITIVE_INFINITY,
    own: "kept",
  });
  expect({ ...back.headers }).toEqual({
    table: '{"toString":1,"toJSON":1,"__proto__":{"toString":1,"valueOf":1}}',
    large: "1152921504606846976",
    huge: "Infinity",
    own: "kept",
  });
});

test("a table under the name __proto__, which amqplib makes the prototype, gives a message nothing", () => {
  const underProto = (value: object, table: object): unknown => Object.setPrototypeOf(table, value);
  const headers = underProto(
    { "anybroker-attempts": "9" },
    {
      bytes: underProto(Buffer.from("bytes"), { own: 1 }),
      list: underProto([1], {}),
    },
  );
  expect({ ...fromWire(headers as Record<string, unknown>).headers }).toEqual({ bytes: '{"own":1}', list: "{}" });
});

test("a name over AMQP's 255 bytes is refused before sending", () => {
  expect(() => toWire(bare([["ü".repeat(128), ""]]), undefined, undefined)).toThrow(RangeError);
  expect(toWire(bare([["ü".repeat(127), ""]]), undefined, undefined)).toBeDefined();
});
