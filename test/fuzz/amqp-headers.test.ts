import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import type { ConsumeMessage } from "amqplib";
import fc from "fast-check";
import { expect, test } from "vitest";
import { DeliveryCount, incomingDeadLetter } from "../../adapters/rabbitmq/dead-letters.ts";
import { incoming, messageId, publishOptions } from "../../adapters/rabbitmq/message-codec.ts";
import { serverVersion } from "../../adapters/rabbitmq/server-version.ts";
import { outgoing } from "../sqs/outgoing.ts";
import { isReadable } from "./readable.ts";
import { fuzzing } from "./runs.ts";

const require = createRequire(import.meta.url);
/** amqplib's own, which it keeps to itself. */
const { encodeTable, decodeFields } = require(join(dirname(require.resolve("amqplib")), "lib/codec.js")) as {
  encodeTable(buffer: Buffer, table: object, offset: number): number;
  decodeFields(bytes: Buffer): Record<string, unknown>;
};

const LENGTH_BYTES = 4;
const NAMES = [
  "x-crash",
  "x-delivery-count",
  "x-acquired-count",
  "__proto__",
  "constructor",
  "toString",
  "valueOf",
  "toJSON",
  "!",
  "value",
  "places",
  "digits",
  "reason",
  "queue",
  "time",
  "anybroker-key",
  "anybroker-routing-key",
  "anybroker-dead-reason",
  "anybroker-header-x",
  "",
];
const name = fc.oneof(fc.constantFrom(...NAMES), fc.string({ maxLength: 8 }));

/** What amqplib makes of a field of a table. */
const { value } = fc.letrec<{ value: unknown; table: object }>((tie) => ({
  value: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    fc.string({ unit: "binary", maxLength: 10 }),
    fc.constantFrom("expired", "rejected", "orders", "timestamp", "decimal"),
    fc.double(),
    fc.integer(),
    fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n }),
    fc.boolean(),
    fc.constant(null),
    fc.uint8Array({ maxLength: 5 }).map((bytes) => Buffer.from(bytes)),
    fc.record({ "!": fc.constant("timestamp"), value: fc.oneof(fc.double(), tie("value")) }),
    fc.record({ "!": fc.constant("decimal"), value: tie("value") }),
    fc.record({ reason: tie("value"), queue: tie("value"), time: tie("value") }),
    fc.array(tie("value"), { maxLength: 3 }),
    tie("table"),
  ),
  table: fc.array(fc.tuple(name, tie("value")), { maxLength: 3 }).map(tableOf),
}));

/** By assignment, as amqplib does it: of a table under `__proto__` it makes the prototype. */
function tableOf(fields: readonly (readonly [string, unknown])[]): object {
  const table: Record<string, unknown> = {};
  for (const [field, given] of fields) table[field] = given;
  return table;
}

const text = fc.string({ unit: "binary", maxLength: 8 });
const message = fc
  .record({
    headers: fc.option(fc.array(fc.tuple(name, value), { maxLength: 6 }).map(tableOf), { nil: undefined }),
    messageId: fc.option(text, { nil: undefined }),
    contentType: fc.option(text, { nil: undefined }),
    timestamp: fc.option(fc.double(), { nil: undefined }),
    priority: fc.option(fc.nat({ max: 255 }), { nil: undefined }),
    exchange: fc.constantFrom("", "geo", "anybroker.delay.deliver"),
    routingKey: text,
    redelivered: fc.boolean(),
    content: fc.uint8Array({ maxLength: 8 }).map((bytes) => Buffer.from(bytes)),
  })
  .map(({ exchange, routingKey, redelivered, content, ...properties }) => {
    return { fields: { exchange, routingKey, redelivered, deliveryTag: 1 }, properties, content };
  }) as unknown as fc.Arbitrary<ConsumeMessage>;

test("any message of RabbitMQ is read, under the same id each time", () => {
  fc.assert(
    fc.property(message, fc.constantFrom("3.10.0", "4.3.0"), (given, version) => {
      const count = new DeliveryCount(serverVersion(version), true);
      expect(typeof count.isDoubtful(given)).toBe("boolean");
      const redeliveries = count.of(given);
      expect(isReadable(incoming(given, 1, redeliveries))).toBe(true);
      expect(isReadable(incomingDeadLetter({ kind: "queue", name: "orders" }, given, 1, 0))).toBe(true);
      expect(messageId(given)).toBe(messageId(given));
    }),
    fuzzing(),
  );
});

test("what was read of any message can be sent on", () => {
  fc.assert(
    fc.property(message, (given) => {
      const { id, key, headers, body, foreign } = incoming(given, 1, 0);
      const { headers: wire } = publishOptions(outgoing({ id, key, headers, body, foreign }), false, "guest");
      const bytes = Buffer.alloc(65_536);
      const sent = decodeFields(bytes.subarray(LENGTH_BYTES, encodeTable(bytes, wire ?? {}, 0)));
      const back = incoming({ ...given, properties: { ...given.properties, headers: sent } } as ConsumeMessage, 1, 0);
      expect({ ...back.headers }).toEqual({ ...headers });
      expect(back.key).toBe(key);
    }),
    fuzzing(),
  );
});
