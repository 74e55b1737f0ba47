import type { Message } from "@aws-sdk/client-sqs";
import { describe, expect, test } from "vitest";
import {
  decodeMessage,
  deduplicationId,
  encodeMessage,
  messageGroup,
  type WireMessage,
} from "../../adapters/sqs/message-codec.ts";
import { HEADER } from "../../core/system-headers.ts";
import { headersOf, outgoing } from "./outgoing.ts";

/** What SQS hands out of a message that it was given. */
function received({ body, attributes }: WireMessage, more: Message = {}): Message {
  return { MessageId: "aws-id", Body: body, MessageAttributes: attributes, ...more };
}

/** What SQS takes in a body, and in the value of an attribute. */
const TAKEN = /^[\t\n\r\u0020-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]+$/u;

describe("an empty id is none", () => {
  const packed = (id: string) => ({ anybroker: { DataType: "String", StringValue: JSON.stringify({ id, key: "k" }) } });
  const envelope = JSON.stringify({ Type: "Notification", TopicArn: "t", Message: "m", MessageId: "" });

  test.for<readonly [what: string, message: Message, id: string]>([
    ["in our own attribute", { MessageId: "aws-id", Body: "{}", MessageAttributes: packed("") }, "aws-id"],
    ["of SNS", { MessageId: "aws-id", Body: envelope }, "aws-id"],
  ])("%s: SQS's own stands for it", ([, message, id]) => {
    expect(decodeMessage(message).id).toBe(id);
  });

  test("the rest of our own attribute counts", () => {
    expect(decodeMessage({ MessageId: "aws-id", Body: "{}", MessageAttributes: packed("") }).key).toBe("k");
  });

  test("without any, it is made of the content, the same each time", () => {
    for (const MessageId of ["", undefined]) {
      const ids = ["one", "one", "two"].map(
        (Body) => decodeMessage({ ...(MessageId === "" ? { MessageId } : {}), Body }).id,
      );
      expect(ids[0]).toMatch(/^sha256-[0-9a-f]{40}$/);
      expect(ids[1]).toBe(ids[0]);
      expect(ids[2]).not.toBe(ids[0]);
    }
  });
});

describe("a message on SQS", () => {
  test.for([
    ["nothing", new Uint8Array()],
    ["text", Buffer.from('{"city":"Zürich 東京 🐇"}')],
    ["what stands for nothing", Buffer.from("-")],
    ["every byte", Uint8Array.from({ length: 256 }, (_, byte) => byte)],
    ["a character that SQS refuses", Buffer.from("a\u0000b")],
    ["half a character", Uint8Array.of(0xe2, 0x82)],
    ["a byte order mark", Buffer.from("\ufeff{}")],
    ["a view into something larger", new Uint8Array(Buffer.from("xxhelloxx").buffer, 0, 0)],
  ] as const)("brings back a body of %s", ([, body]) => {
    const wire = encodeMessage(outgoing({ body }));
    expect(wire.body).toMatch(TAKEN);
    expect(Buffer.from(decodeMessage(received(wire)).body)).toEqual(Buffer.from(body));
  });

  test("a body that is text stays readable for others", () => {
    expect(encodeMessage(outgoing({ body: Buffer.from('{"n":1}') })).body).toBe('{"n":1}');
  });

  test("brings back id, key, routing key and content type", () => {
    const message = outgoing({ id: "o-1", key: "k/ü", routingKey: "geo.us", contentType: "text/plain" });
    expect(decodeMessage(received(encodeMessage(message)))).toMatchObject({
      id: "o-1",
      key: "k/ü",
      routingKey: "geo.us",
      contentType: "text/plain",
    });
    expect(decodeMessage(received(encodeMessage(outgoing())))).toMatchObject({
      key: undefined,
      routingKey: undefined,
      contentType: "application/json",
    });
  });

  test("brings back headers that are traps, that SQS refuses, and more than it takes", () => {
    const traps = [
      "__proto__",
      "constructor",
      "toString",
      "anybroker",
      "a b",
      "ü",
      ".x",
      "x..y",
      "AWS.x",
      "x".repeat(300),
    ];
    const headers = headersOf([
      ...traps.map((name) => [name, `plain ${name}`] as const),
      ["empty", ""],
      ["refused", "a\u0001b\ufffe"],
      ...Array.from({ length: 40 }, (_, index) => [`h${index}`, `${index}`] as const),
      [HEADER.publishedAt, "5"],
    ]);
    const wire = encodeMessage(outgoing({ headers, routingKey: "geo" }));
    expect(Object.keys(wire.attributes).length).toBeLessThanOrEqual(10);
    for (const [name, { StringValue }] of Object.entries(wire.attributes)) {
      expect(name).toMatch(/^(?!AWS\.|Amazon\.)(?!\.)(?!.*\.\.)[\w.-]{1,256}$/i);
      expect(StringValue).toMatch(TAKEN);
    }
    const { headers: got } = decodeMessage(received(wire));
    expect(Object.getPrototypeOf(got)).toBeNull();
    expect(new Map(Object.entries(got))).toEqual(new Map(Object.entries(headers)));
    expect(Object.hasOwn(Object.prototype, "plain __proto__")).toBe(false);
  });

  test("few headers are attributes that others and filter policies can read", () => {
    const { attributes } = encodeMessage(outgoing({ headers: headersOf({ traceparent: "00-1-2-01" }) }));
    expect(attributes.traceparent).toEqual({ DataType: "String", StringValue: "00-1-2-01" });
  });

  test("counts bytes as SQS does: body, and names, types and values of attributes", () => {
    const { bytes, attributes } = encodeMessage(
      outgoing({ body: Buffer.from("ü"), headers: headersOf({ city: "東" }) }),
    );
    const packed = Buffer.byteLength(attributes.anybroker?.StringValue ?? "");
    expect(bytes).toBe(2 + "cityString".length + 3 + "anybrokerString".length + packed);
  });

  test("the time at which it is due travels where the broker cannot delay", () => {
    const { headers } = decodeMessage(received(encodeMessage(outgoing(), { dueAt: 1_234 })));
    expect(headers[HEADER.dueAt]).toBe("1234");
  });

  test("deaths are the receives before this one", () => {
    const wire = encodeMessage(outgoing());
    const times = (count: string) => decodeMessage(received(wire, { Attributes: { ApproximateReceiveCount: count } }));
    expect([times("1").redeliveries, times("4").redeliveries]).toEqual([0, 3]);
  });
});

describe("a message of another sender", () => {
  test("is read as it is, under the id and the group that SQS gave it", () => {
    const MessageAttributes = {
      city: { DataType: "String", StringValue: "Zürich" },
      image: { DataType: "Binary", BinaryValue: Uint8Array.of(1, 2) },
    };
    const foreign = { MessageId: "aws-id", Body: "hello", MessageAttributes, Attributes: { MessageGroupId: "g" } };
    const message = decodeMessage(foreign);
    expect(message).toMatchObject({ id: "aws-id", key: "g", contentType: undefined });
    expect({ ...message.headers }).toEqual({ city: "Zürich", image: "AQI=" });
    expect(Buffer.from(message.body).toString()).toBe("hello");
  });

  test("that came by SNS without raw delivery is taken out of its envelope", () => {
    const wire = encodeMessage(outgoing({ id: "e-1", routingKey: "geo.us", headers: headersOf({ city: "Zürich" }) }));
    const MessageAttributes = Object.fromEntries(
      Object.entries(wire.attributes).map(([name, { StringValue }]) => [name, { Type: "String", Value: StringValue }]),
    );
    const envelope = {
      Type: "Notification",
      MessageId: "sns-id",
      TopicArn: "arn:x",
      Message: wire.body,
      MessageAttributes,
    };
    const message = decodeMessage({ MessageId: "aws-id", Body: JSON.stringify(envelope) });
    expect(message).toMatchObject({ id: "e-1", routingKey: "geo.us" });
    expect({ ...message.headers }).toEqual({ city: "Zürich" });
    expect(Buffer.from(message.body).toString()).toBe("{}");
    const foreign = decodeMessage({
      Body: JSON.stringify({ ...envelope, MessageAttributes: undefined, Message: "hi" }),
    });
    expect(foreign.id).toBe("sns-id");
    expect(Buffer.from(foreign.body).toString()).toBe("hi");
  });

  test.for(["{", '{"TopicArn":1}', '{"Type":"Notification","TopicArn":"arn:x"}', '["TopicArn"]'])(
    "that only looks like an envelope is left alone: %s",
    (Body) => {
      expect(Buffer.from(decodeMessage({ MessageId: "aws-id", Body }).body).toString()).toBe(Body);
    },
  );

  test.for(["", "{", "[]", '{"id":5}', '{"id":"x","headers":"no","key":{},"body":"zip"}'])(
    "with an attribute of our name that we did not write is read all the same: %s",
    (StringValue) => {
      const message = decodeMessage({
        MessageId: "aws-id",
        Body: "hello",
        MessageAttributes: { anybroker: { DataType: "String", StringValue } },
      });
      expect(Buffer.from(message.body).toString()).toBe("hello");
      expect({ ...message.headers }).toEqual({});
    },
  );
});

/** As JSON writes them: to be made text, each would run something of its own, or have the stack overflow. */
const NO_TEXTS = [
  '{"toString":1,"valueOf":1}',
  '{"toString":{"a":1}}',
  `${"[".repeat(60_000)}${"]".repeat(60_000)}`,
  `${'{"a":'.repeat(60_000)}1${"}".repeat(60_000)}`,
  '{"__proto__":{"toString":1}}',
  "null",
];

describe("what is no text", () => {
  test.for(NO_TEXTS.map((text) => [text.slice(0, 30), text] as const))(
    "in an envelope like SNS's is no header, and the body is as it was sent: %s",
    ([, value]) => {
      const attributes = `{"a":{"Value":${value}},"b":{"Value":"kept"},"c":{"Value":5}}`;
      const Body = `{"Type":"Notification","TopicArn":"t","Message":"m","MessageId":"i","MessageAttributes":${attributes}}`;
      const message = decodeMessage({ MessageId: "aws-id", Body });
      expect({ ...message.headers }).toEqual({ b: "kept", c: "5" });
      expect(Buffer.from(message.body).toString()).toBe("m");
    },
  );

  test.for(NO_TEXTS.map((text) => [text.slice(0, 30), text] as const))(
    "in the attribute of the engine's headers is no header: %s",
    ([, value]) => {
      const StringValue = `{"id":"x","headers":{"a":${value},"b":"kept"}}`;
      const MessageAttributes = { anybroker: { DataType: "String", StringValue } };
      const message = decodeMessage({ MessageId: "aws-id", Body: "hello", MessageAttributes });
      expect({ ...message.headers }).toEqual({ b: "kept" });
      expect(Buffer.from(message.body).toString()).toBe("hello");
    },
  );
});

test.for([
  ["empty", "hello"],
  ["base64", "not base64!"],
  ["base64", "YQ="],
])("a body that is said to be %s and is not loses nothing: %s", ([form, Body]) => {
  const StringValue = JSON.stringify({ id: "x", body: form });
  const MessageAttributes = { anybroker: { DataType: "String", StringValue } };
  expect(Buffer.from(decodeMessage({ Body, MessageAttributes }).body).toString()).toBe(Body);
});

test("attributes that are no texts, as no SQS gives them, are none or become texts", () => {
  const Attributes = {
    MessageGroupId: 5,
    AWSTraceHeader: {},
    SentTimestamp: 7,
    ApproximateReceiveCount: { toString: 1 },
  } as never;
  const given = { StringValue: 5, DataType: "String" } as never;
  const attributes = { own: given, "anybroker-routing-key": given, none: { StringValue: {}, DataType: 3 } as never };
  for (const MessageAttributes of [undefined, attributes]) {
    const read = decodeMessage({
      MessageId: "m",
      Body: "hello",
      Attributes,
      ...(MessageAttributes && { MessageAttributes }),
    });
    expect(read).toMatchObject({ id: "m", key: undefined, routingKey: MessageAttributes && "5" });
    expect({ ...read.headers }).toEqual(MessageAttributes ? { own: "5", none: "" } : {});
    expect(read.foreign).toBeUndefined();
    expect(read.sentAt).toBeUndefined();
  }
  const plain = {
    anybroker: {
      get StringValue(): string {
        throw new Error("cannot be read");
      },
      DataType: "String",
    },
  };
  expect(decodeMessage({ Body: "a", Attributes, MessageAttributes: plain }).key).toBeUndefined();
});

describe("message groups and deduplication", () => {
  const GIVEN = /^[\w!"#$%&'()*+,\-./:;<=>?@[\\\]^`{|}~]{1,128}$/;

  test.for(["k1", "ü", "a b", "k".repeat(129), "\u{1F407}"])("every key has a group that SQS takes: %s", (key) => {
    const group = messageGroup(outgoing({ key }));
    expect(group).toMatch(GIVEN);
    expect(messageGroup(outgoing({ key, id: "other" }))).toBe(group);
    expect(messageGroup(outgoing({ key: `${key}.` }))).not.toBe(group);
  });

  test("without a key each message is a group of its own", () => {
    expect(messageGroup(outgoing({ id: "a" }))).not.toBe(messageGroup(outgoing({ id: "b" })));
  });

  test("a message sent twice is one, and its retries and replays are others", () => {
    const sent = outgoing({ id: "a", headers: headersOf({ [HEADER.publishedAt]: "5", city: "Bern" }) });
    const again = outgoing({ id: "a", headers: headersOf({ city: "Bern" }) });
    expect(deduplicationId(sent)).toBe("a");
    expect(deduplicationId(again)).toBe("a");
    const copy = (attempts: string) =>
      deduplicationId(outgoing({ id: "a", headers: headersOf({ [HEADER.attempts]: attempts }) }));
    expect(new Set(["a", copy("1"), copy("2")]).size).toBe(3);
    expect(copy("1")).toBe(copy("1"));
    expect(copy("1")).toMatch(GIVEN);
  });
});
