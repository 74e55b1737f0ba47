import type { Message, MessageAttributeValue } from "@aws-sdk/client-sqs";
import { describe, expect, test } from "vitest";
import { decodeMessage, encodeMessage, type WireMessage } from "../../adapters/sqs/message-codec.ts";
import type { OutgoingMessage } from "../../core/adapter.ts";
import { outgoing } from "./outgoing.ts";

/** A copy of a message, as the engine makes it. */
function copyOf(message: Message, more: Partial<OutgoingMessage> = {}): WireMessage {
  const { id, key, routingKey, headers, body, contentType, foreign } = decodeMessage(message);
  return encodeMessage(outgoing({ id, key, routingKey, headers, body, contentType, foreign, ...more }), {
    direct: true,
  });
}

/** What SQS hands out of a copy. */
function handedOut({ body, attributes }: WireMessage): Message {
  return { MessageId: "copy", Body: body, MessageAttributes: attributes };
}

const TYPED = {
  count: { DataType: "Number", StringValue: "7.50" },
  bytes: { DataType: "Binary.png", BinaryValue: Uint8Array.of(0, 255) },
  custom: { DataType: "String.url", StringValue: "https://example.com" },
};
const PLAIN: Message = { MessageId: "aws-id", Body: "hello", MessageAttributes: TYPED };

describe("attributes of another sender", () => {
  test("go with a copy and the copy of a copy in their types", () => {
    const first = copyOf(PLAIN);
    expect(first.attributes).toMatchObject({ ...TYPED, bytes: { BinaryValue: Buffer.of(0, 255) } });
    expect(copyOf(handedOut(first)).attributes).toMatchObject(first.attributes);
    expect(decodeMessage(handedOut(first))).toMatchObject({ id: "aws-id", contentType: undefined });
  });

  test("become those of ten that the copy has room for, typed ones first; the others keep their types within", () => {
    const texts = Array.from({ length: 7 }, (_, n) => [`text-${n}`, { DataType: "String", StringValue: `${n}` }]);
    const message = { ...PLAIN, MessageAttributes: { ...Object.fromEntries(texts), ...TYPED } };
    const first = copyOf(message);
    expect(Object.keys(first.attributes)).toHaveLength(10);
    expect(first.attributes).toMatchObject({ count: TYPED.count, custom: TYPED.custom });
    const routed = copyOf(message, { routingKey: "geo" });
    expect(Object.keys(routed.attributes)).toHaveLength(10);
    const many = Array.from({ length: 10 }, (_, n) => [`n${n}`, { DataType: "Number", StringValue: `${n}` }]);
    const numbers = { ...PLAIN, MessageAttributes: Object.fromEntries(many) };
    const back = decodeMessage(handedOut(copyOf(handedOut(copyOf(numbers)))));
    const last = encodeMessage(outgoing({ headers: { n9: "9" }, foreign: back.foreign }));
    expect(last.attributes.n9).toEqual({ DataType: "Number", StringValue: "9" });
  });

  test("that were changed since are texts", () => {
    const { foreign } = decodeMessage(PLAIN);
    const { attributes } = encodeMessage(outgoing({ headers: { count: "8" }, foreign }));
    expect(attributes.count).toEqual({ DataType: "String", StringValue: "8" });
  });

  test.for<[string, MessageAttributeValue]>([
    ["a type that is none", { DataType: "Date", StringValue: "x" }],
    ["a number that is none", { DataType: "Number", StringValue: "seven" }],
    ["bytes that are none", { DataType: "Binary" }],
    ["a number that is too large", { DataType: "Number", StringValue: "1e999" }],
    ["a number that is too large for SQS alone", { DataType: "Number.int", StringValue: "-1e126" }],
    ["a number that is too small", { DataType: "Number", StringValue: "1e-129" }],
    ["a number with too many digits", { DataType: "Number", StringValue: `${"1".repeat(20)}.${"1".repeat(19)}` }],
  ])("are texts where SQS would refuse them: %s", ([, attribute]) => {
    const { attributes } = copyOf({ ...PLAIN, MessageAttributes: { odd: attribute } });
    expect(attributes.odd?.DataType ?? "String").toBe("String");
  });

  test.for(["0", "-0.000", "1e125", "-1.5E-127", "1".repeat(38), `${"0".repeat(10)}7.5${"0".repeat(10)}`])(
    "stay numbers where SQS takes them: %s",
    (StringValue) => {
      const odd = { DataType: "Number", StringValue };
      expect(copyOf({ ...PLAIN, MessageAttributes: { odd } }).attributes.odd).toEqual(odd);
    },
  );

  test("count in what SQS counts", () => {
    const { bytes, body, attributes } = copyOf(PLAIN);
    let counted = Buffer.byteLength(body);
    for (const [name, { DataType = "", StringValue = "", BinaryValue = "" }] of Object.entries(attributes)) {
      counted += name.length + DataType.length + Buffer.byteLength(StringValue) + BinaryValue.length;
    }
    expect(bytes).toBe(counted);
  });
});

test("the trace header of AWS, and the group of a standard queue, go with a copy", () => {
  const trace = "Root=1-5759e988-bd862e3fe1be46a994272793";
  const Attributes = { AWSTraceHeader: trace, MessageGroupId: "tenant" } as NonNullable<Message["Attributes"]>;
  const { system, group } = copyOf({ ...PLAIN, Attributes });
  expect(system).toEqual({ AWSTraceHeader: { DataType: "String", StringValue: trace } });
  expect(group).toBe("tenant");
  const fifo = { ...Attributes, SequenceNumber: "18", AWSTraceHeader: trace } as NonNullable<Message["Attributes"]>;
  expect(copyOf({ ...PLAIN, Attributes: fifo }).group).toBeUndefined();
});

test("a message tells when it was sent", () => {
  const at = (SentTimestamp: string) => decodeMessage({ ...PLAIN, Attributes: { SentTimestamp } }).sentAt;
  expect(at("1700000000123")).toBe(1_700_000_000_123);
  for (const none of ["", "now", "1e3", "99999999999999999999"]) expect(at(none)).toBeUndefined();
});

describe("an event of another sender in SNS's envelope", () => {
  const envelope = JSON.stringify({
    Type: "Notification",
    MessageId: "sns-id",
    TopicArn: "arn:aws:sns:eu-west-1:000000000000:events",
    Subject: "Your order",
    Message: '{"n":1}',
    MessageAttributes: { count: { Type: "Number", Value: "7" }, city: { Type: "String", Value: "Zürich" } },
  });
  const event: Message = { MessageId: "aws-id", Body: envelope };

  test("stays in it on a copy, and is read as it was", () => {
    const first = copyOf(event);
    expect(first.body).toBe(envelope);
    const [before, after] = [decodeMessage(event), decodeMessage(handedOut(first))];
    expect(after).toMatchObject({ id: "sns-id", contentType: undefined });
    expect(Buffer.from(after.body)).toEqual(Buffer.from('{"n":1}'));
    expect({ ...after.headers }).toEqual({ ...before.headers });
    expect(copyOf(handedOut(first)).body).toBe(envelope);
  });

  test.for(["", "\0", "\ud800", "geo.\uffff"])("has no routing key that no copy could carry: %j", (Value) => {
    const MessageAttributes = { "anybroker-routing-key": { Type: "String", Value } };
    const Body = JSON.stringify({ ...JSON.parse(envelope), MessageAttributes });
    expect(decodeMessage({ ...event, Body }).routingKey).toBeUndefined();
    const copy = copyOf({ ...event, Body });
    expect(copy.attributes).not.toHaveProperty("anybroker-routing-key");
    expect(copy.body).toBe(Body);
  });

  test("leaves it where the copy has another body, and keeps its headers", () => {
    const edited = copyOf(event, { body: Buffer.from('{"n":2}') });
    expect(edited.body).toBe('{"n":2}');
    expect(edited.attributes.count).toEqual({ DataType: "Number", StringValue: "7" });
  });

  test("has the headers that the copy was given beside it", () => {
    const { id, headers, body, foreign } = decodeMessage(event);
    const copy = encodeMessage(outgoing({ id, body, foreign, headers: { ...headers, "anybroker-attempts": "1" } }));
    expect({ ...decodeMessage(handedOut(copy)).headers }).toEqual({ ...headers, "anybroker-attempts": "1" });
  });
});
