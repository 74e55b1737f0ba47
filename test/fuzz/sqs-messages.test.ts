import type { Message } from "@aws-sdk/client-sqs";
import fc from "fast-check";
import { expect, test } from "vitest";
import { decodeDeadLetter } from "../../adapters/sqs/dead-letters.ts";
import { decodeMessage, encodeMessage, isDirect } from "../../adapters/sqs/message-codec.ts";
import { outgoing } from "../sqs/outgoing.ts";
import { isReadable } from "./readable.ts";
import { fuzzing } from "./runs.ts";

const trap = fc.constantFrom('{"toString":1,"valueOf":1}', `${"[".repeat(20_000)}${"]".repeat(20_000)}`);
const json = fc.oneof({ weight: 3, arbitrary: fc.json({ maxDepth: 3 }) }, trap);
const name = fc.constantFrom("anybroker", "anybroker-routing-key", "__proto__", "constructor", "toString", "city", "");

/** JSON of an object with these fields, each there or not. */
function objectWith(fields: Readonly<Record<string, fc.Arbitrary<string>>>): fc.Arbitrary<string> {
  const all = Object.entries(fields).map(([field, value]) =>
    fc.option(value.map((text) => `${JSON.stringify(field)}:${text}`)),
  );
  return fc.tuple(...all).map((texts) => `{${texts.filter((text) => text !== null).join(",")}}`);
}

const values = fc
  .array(fc.tuple(name, json), { maxLength: 4 })
  .map((all) => `{${all.map(([field, value]) => `${JSON.stringify(field)}:{"Value":${value}}`).join(",")}}`);
const headers = fc
  .array(fc.tuple(name, json), { maxLength: 4 })
  .map((all) => `{${all.map(([field, value]) => `${JSON.stringify(field)}:${value}`).join(",")}}`);
const text = fc.string({ unit: "binary", maxLength: 20 }).map((given) => JSON.stringify(given));

const envelope = objectWith({
  Type: fc.constant('"Notification"'),
  TopicArn: fc.oneof(text, json),
  Message: fc.oneof(text, json),
  MessageId: fc.oneof(text, json),
  MessageAttributes: fc.oneof(values, json),
});
const packed = objectWith({
  id: fc.oneof(text, json),
  key: fc.oneof(text, json),
  type: fc.oneof(text, json),
  body: fc.oneof(fc.constantFrom('"base64"', '"empty"'), json),
  headers: fc.oneof(headers, json),
  direct: json,
});
const attribute = fc.record(
  {
    DataType: fc.string(),
    StringValue: fc.oneof({ weight: 3, arbitrary: packed }, fc.string({ unit: "binary" })),
    BinaryValue: fc.uint8Array({ maxLength: 8 }),
  },
  { requiredKeys: [] },
);
const message: fc.Arbitrary<Message> = fc.record(
  {
    MessageId: fc.string(),
    Body: fc.oneof(envelope, fc.string({ unit: "binary" }), json),
    Attributes: fc.dictionary(
      fc.constantFrom("ApproximateReceiveCount", "MessageGroupId", "SentTimestamp", "DeadLetterQueueSourceArn"),
      fc.oneof(fc.string(), fc.constantFrom("NaN", "-1", "1e400", "12")),
    ),
    MessageAttributes: fc.dictionary(name, attribute),
  },
  { requiredKeys: [] },
) as fc.Arbitrary<Message>;

test("any message of SQS is read, and reading it a second time tells the same", () => {
  fc.assert(
    fc.property(message, (given) => {
      const read = decodeMessage(given);
      expect(isReadable(read)).toBe(true);
      expect(decodeMessage(given)).toEqual(read);
      expect(isReadable(decodeDeadLetter({ kind: "queue", name: "orders" }, given))).toBe(true);
      expect(typeof isDirect(given)).toBe("boolean");
    }),
    fuzzing(),
  );
});

test("what was read of any message can be sent on, and is read as the same", () => {
  fc.assert(
    fc.property(message, (given) => {
      const { id, key, routingKey, headers: own, body, contentType = "text/plain" } = decodeMessage(given);
      const wire = encodeMessage(outgoing({ id, key, headers: own, body, contentType }));
      const back = decodeMessage({ Body: wire.body, MessageAttributes: wire.attributes });
      expect(back).toMatchObject({ id, key, headers: own, contentType });
      expect(Buffer.from(back.body).equals(Buffer.from(body))).toBe(true);
      expect(routingKey === undefined || typeof routingKey === "string").toBe(true);
    }),
    fuzzing(),
  );
});
