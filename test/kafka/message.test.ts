import { describe, expect, test } from "vitest";
import { incoming, incomingRecord, routingKeyOf, toRecord, toRecordUnder } from "../../adapters/kafka/message.ts";
import type { LogRecord, RecordToWrite } from "../../adapters/kafka/records/contract.ts";
import type { OutgoingMessage } from "../../core/adapter.ts";
import { MessagingError } from "../../core/errors.ts";

const MESSAGE: OutgoingMessage = {
  id: "o-1",
  key: "schlüssel",
  routingKey: "geo.us",
  headers: Object.assign(Object.create(null), { tenant: "é", "anybroker-attempts": "2", ["__proto__"]: "plain" }),
  body: Buffer.from("body"),
  contentType: "text/plain",
  size: 100,
  priority: 0,
  delayMs: 0,
  ttlMs: undefined,
};

function stored({ key, value, headers }: RecordToWrite): LogRecord {
  const wire = Object.create(null) as Record<string, Buffer>;
  for (const [name, text] of headers) wire[name] = Buffer.from(text);
  return {
    offset: 7,
    timestamp: 1_000,
    key: key === undefined ? undefined : Buffer.from(key),
    value: value === undefined ? undefined : Buffer.from(value),
    headers: wire,
  };
}

function foreign(given: Partial<LogRecord>): LogRecord {
  return {
    offset: 12,
    timestamp: 0,
    key: undefined,
    value: Buffer.alloc(0),
    headers: Object.create(null),
    ...given,
  };
}

const PLACE = { topic: "orders", partition: 3 };

describe("a message of ours", () => {
  test("comes back as it was", () => {
    const record = stored(toRecord(MESSAGE));
    const held = { ...PLACE, record, deaths: 2 };
    const back = incoming(held);
    expect(back).toMatchObject({
      id: "o-1",
      key: "schlüssel",
      routingKey: "geo.us",
      contentType: "text/plain",
      redeliveries: 2,
    });
    expect(back.token).toBe(held);
    expect(back.headers).toEqual(MESSAGE.headers);
    expect(Object.getPrototypeOf(back.headers)).toBeNull();
    expect(Buffer.from(back.body).toString()).toBe("body");
    expect(back.native).toEqual({
      ...PLACE,
      offset: 7,
      timestamp: 1_000,
      key: record.key,
      value: record.value,
      headers: record.headers,
    });
  });

  test("without key, routing key and headers has none afterwards", () => {
    const bare = { ...MESSAGE, key: undefined, routingKey: undefined, headers: Object.create(null) };
    const record = toRecord(bare);
    expect(record.key).toBeUndefined();
    expect(incomingRecord(PLACE, stored(record), 1, 0)).toMatchObject({
      key: undefined,
      routingKey: undefined,
      headers: {},
    });
  });

  test("keeps its key in a record under another", () => {
    const record = stored(toRecordUnder(Buffer.from("entry"), MESSAGE));
    expect(record.key?.toString()).toBe("entry");
    const back = incomingRecord(PLACE, record, 1, 0);
    expect(back.key).toBe("schlüssel");
    expect(back.headers).toEqual(MESSAGE.headers);
  });

  test("shows its routing key before it is read", () => {
    expect(routingKeyOf(stored(toRecord(MESSAGE)))).toBe("geo.us");
  });
});

describe("a record of another sender", () => {
  test("has an id by its place, and an empty body if it is a tombstone", () => {
    const back = incomingRecord(PLACE, foreign({ value: undefined }), 1, 0);
    expect(back).toMatchObject({ id: "orders-3-12", key: undefined, contentType: undefined });
    expect(back.body).toHaveLength(0);
    expect(back.native.value).toBeUndefined();
  });

  test("has text for bytes that are none, the same each time", () => {
    const bytes = Buffer.from([0xff, 0xfe]);
    const headers = Object.assign(Object.create(null), { trace: bytes, constructor: Buffer.from("c") });
    const back = incomingRecord(PLACE, foreign({ key: bytes, headers }), 1, 0);
    expect(back.key).toBe("//4=");
    expect({ ...back.headers }).toEqual({ trace: "//4=", constructor: "c" });
  });

  test("says why its headers were not read", () => {
    const problem = new MessagingError("too-large", "10,000 headers");
    const back = incomingRecord(PLACE, foreign({ problem }), 1, 0);
    expect(back.headers["anybroker-headers-not-read"]).toBe("10,000 headers");
  });
});
