import fc from "fast-check";
import { expect, test } from "vitest";
import {
  asBytes,
  asText,
  contentOf,
  deadLetterRecord,
  entryKey,
  restoredRecord,
} from "../../../adapters/kafka/dead-letters/records.ts";
import { incoming } from "../../../adapters/kafka/message-codec.ts";
import type { OutgoingMessage } from "../../../core/adapter.ts";
import { systemRandom } from "../../../core/clock.ts";
import { HEADER } from "../../../core/system-headers.ts";

const random = systemRandom();

function message(overrides: Partial<OutgoingMessage> = {}): OutgoingMessage {
  return {
    id: "o-1",
    key: "k",
    routingKey: undefined,
    headers: { a: "b" },
    body: Buffer.from("body"),
    contentType: "application/json",
    size: 4,
    priority: 0,
    delayMs: 0,
    ttlMs: undefined,
    ...overrides,
  };
}

const keyOf = (overrides: Partial<OutgoingMessage> = {}): string => entryKey(message(overrides), random);

test("the same message is one entry, however often and whyever it failed, and no key comes twice", () => {
  const first = keyOf();
  const again = keyOf({ headers: { a: "b", [HEADER.deadAttempts]: "3", [HEADER.deadLastAt]: "2030-01-01" }, size: 9 });
  expect(contentOf(again)).toBe(contentOf(first));
  expect(again).not.toBe(first);
  expect(keyOf()).not.toBe(keyOf());
});

test("two messages with one id and anything else different are two entries", () => {
  const others: Partial<OutgoingMessage>[] = [
    {},
    { body: Buffer.from("other") },
    { key: "other" },
    { key: undefined },
    { headers: { a: "c" } },
    { headers: {} },
    { headers: { ab: "" } },
    { routingKey: "r" },
    { contentType: "text/plain" },
    { id: "o-2" },
  ];
  expect(new Set(others.map((other) => contentOf(keyOf(other)))).size).toBe(others.length);
});

test("the order of headers does not matter", () => {
  expect(contentOf(keyOf({ headers: { a: "1", b: "2" } }))).toBe(contentOf(keyOf({ headers: { b: "2", a: "1" } })));
});

test("keys are told apart by their whole id, whatever it looks like", () => {
  const id = fc.oneof(
    fc.string({ unit: "grapheme", minLength: 1 }),
    fc.constantFrom(keyOf(), contentOf(keyOf()), "a.b", "ü"),
  );
  fc.assert(
    fc.property(id, id, (one, other) => {
      const [first, second] = [keyOf({ id: one }), keyOf({ id: other })];
      expect(contentOf(first) === contentOf(second)).toBe(one === other);
      expect(asText(asBytes(first))).toBe(first);
      expect(asBytes(first).toString("utf8").startsWith(`${one}.`)).toBe(true);
    }),
  );
});

test("keys of other senders stay as they are", () => {
  fc.assert(
    fc.property(fc.uint8Array(), (bytes) => {
      expect([...asBytes(asText(bytes))]).toEqual([...bytes]);
    }),
  );
  expect(contentOf("orders-17")).toBe("orders-17");
});

test("the record comes back as the message that it was", () => {
  for (const key of ["k", undefined]) {
    const sent = message({ key, headers: { a: "é", [HEADER.deadReason]: "failed" }, routingKey: "geo.us" });
    const record = deadLetterRecord(sent, random);
    const headers: Record<string, Buffer> = Object.create(null);
    for (const [name, value] of record.headers) headers[name] = Buffer.from(value as string);
    const stored = {
      offset: 7,
      timestamp: 0,
      key: Buffer.from(record.key ?? []),
      value: Buffer.from(record.value ?? []),
    };
    const held = { topic: "orders.dlq", partition: 0, crashes: 0, record: restoredRecord({ ...stored, headers }) };
    const { id, key: ownKey, routingKey, headers: given, body, contentType } = incoming(held);
    expect({ id, key: ownKey, routingKey, contentType }).toEqual({
      id: "o-1",
      key,
      routingKey: "geo.us",
      contentType: "application/json",
    });
    expect({ ...given }).toEqual(sent.headers);
    expect(Buffer.from(body).toString()).toBe("body");
    expect(record.partition).toBe(0);
  }
});
