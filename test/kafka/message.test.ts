import { describe, expect, test } from "vitest";
import { incoming, incomingRecord, routingKeyOf, toRecord, toRecordUnder } from "../../adapters/kafka/message-codec.ts";
import type { LogRecord, RecordToWrite } from "../../adapters/kafka/records/contract.ts";
import { CopiedHeaders, NULL_VALUE } from "../../adapters/kafka/records/read.ts";
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
  for (const [name, text = ""] of headers)
    wire[name] = typeof text === "string" ? Buffer.from(text) : Buffer.from(text);
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
    const held = { ...PLACE, record, crashes: 2 };
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
    const again = (topicId: string) => incomingRecord({ ...PLACE, topicId }, foreign({}), 1, 0).id;
    expect([again("first"), again("second"), again("")]).toEqual([
      "orders-3-12-first",
      "orders-3-12-second",
      "orders-3-12",
    ]);
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

  /** A record with these headers, as they stand in a log. */
  function written(list: readonly (readonly [string, Buffer | undefined])[], more: Partial<LogRecord> = {}): LogRecord {
    const values = list.map(([, value]) => value ?? NULL_VALUE);
    return foreign({ ...more, written: new CopiedHeaders({ names: list.map(([name]) => name), values }) });
  }

  /** The record of a copy of it, with another header of the engine's. */
  function copied(record: LogRecord, make = toRecord) {
    const { headers, ...message } = incomingRecord(PLACE, record, 1, 0);
    return make({ ...MESSAGE, ...message, contentType: message.contentType, headers: { ...headers, more: "x" } });
  }

  const bytes = Buffer.from([0xff, 0xfe]);
  const list = [
    ["twice", Buffer.from("1")],
    ["bytes", bytes],
    ["twice", Buffer.from("2")],
    ["nothing", undefined],
    ["empty", Buffer.alloc(0)],
  ] as const;

  test("goes with its copies as it was: bytes, headers with one name, in order, and without a value", () => {
    const copy = copied(written(list, { key: bytes }));
    expect(copy.key).toEqual(bytes);
    const theirs = copy.headers.filter(([name]) => name !== "anybroker-id");
    expect(theirs).toEqual([...list, ["more", "x"]]);
    expect(copy.headers.some(([name]) => name === "anybroker-content-type")).toBe(false);
  });

  test("leaves a header that was changed since as it is now", () => {
    const { headers, ...message } = incomingRecord(PLACE, written(list), 1, 0);
    const { headers: copy } = toRecord({ ...MESSAGE, ...message, headers: { bytes: "changed", twice: "2" } });
    expect(copy.filter(([name]) => name === "bytes" || name === "twice")).toEqual([
      ["twice", Buffer.from("1")],
      ["twice", Buffer.from("2")],
      ["bytes", "changed"],
    ]);
  });

  test("keeps a key of bytes on its way through the dead letters", () => {
    const letter = stored(copied(foreign({ key: bytes }), (message) => toRecordUnder(Buffer.from("entry"), message)));
    expect(incomingRecord(PLACE, letter, 1, 0).key).toBe("//4=");
    expect(copied(letter).key).toEqual(bytes);
  });

  test("without a value has none in its copies, but for the dead letter, which says so", () => {
    const record = foreign({ key: Buffer.from("k"), value: undefined });
    expect(incomingRecord(PLACE, record, 1, 0).tombstone).toBe(true);
    expect(copied(record).value).toBeUndefined();
    const letter = stored(copied(record, (message) => toRecordUnder(Buffer.from("entry"), message)));
    expect(letter.value).toHaveLength(0);
    const back = incomingRecord(PLACE, letter, 1, 0);
    expect(back).toMatchObject({ tombstone: true, key: "k" });
    expect({ ...back.headers }).toEqual({ more: "x" });
    expect(copied(letter).value).toBeUndefined();
    const edited = { ...MESSAGE, ...back, contentType: "text/plain", body: Buffer.from("new") };
    expect(toRecord(edited).value).toEqual(Buffer.from("new"));
  });

  test("with an empty value is no tombstone, and neither is what cannot be read", () => {
    expect(incomingRecord(PLACE, foreign({}), 1, 0).tombstone).toBeUndefined();
    const error = new MessagingError("invalid", "damaged");
    const extent = { lastOffset: 12, records: 1, timestamp: 0, appendTime: false };
    const unreadable = foreign({ value: undefined, unreadable: { ...extent, error } });
    expect(incomingRecord(PLACE, unreadable, 1, 0).tombstone).toBeUndefined();
  });

  test("tells when it was sent, where that is a date", () => {
    const at = (timestamp: number) => incomingRecord(PLACE, foreign({ timestamp }), 1, 0).sentAt;
    expect(at(1_700_000_000_123)).toBe(1_700_000_000_123);
    for (const none of [-1, 1.7e18]) expect(at(none)).toBeUndefined();
  });

  test("says why its headers were not read", () => {
    const problem = new MessagingError("too-large", "10,000 headers");
    const back = incomingRecord(PLACE, foreign({ problem }), 1, 0);
    expect(back.headers["anybroker-headers-not-read"]).toBe("10,000 headers");
  });
});
