import { expect, test } from "vitest";
import type { DeliveredRecord } from "../../../adapters/kafka/consuming/partition-ledger.ts";
import type { Log, Piece } from "../../../adapters/kafka/dead-letters/partition-log.ts";
import { deadLetterRecord } from "../../../adapters/kafka/dead-letters/records.ts";
import {
  lowestReferences,
  readReference,
  referenceTo,
  referredRecords,
  referringLetter,
} from "../../../adapters/kafka/dead-letters/references.ts";
import { type ConsumerFactory, resolveReference } from "../../../adapters/kafka/receiver.ts";
import type { LogRecord, UnreadableBatch } from "../../../adapters/kafka/records/contract.ts";
import { unreadableRecord } from "../../../adapters/kafka/records/read.ts";
import type { IncomingMessage, OutgoingMessage } from "../../../core/adapter.ts";
import { isMessagingError, MessagingError } from "../../../core/errors.ts";
import { HEADER } from "../../../core/system-headers.ts";
import { Prng } from "../../simulation/prng.ts";
import { ProcessClock, VirtualTime } from "../../simulation/virtual-time.ts";
import { topicId } from "../topic-ids.ts";
import { FakeDeadLetters } from "./fake-dead-letters.ts";

const EXTENT = { lastOffset: 9, records: 3, timestamp: 5_000, appendTime: true };
const ERROR = new MessagingError("unsupported", "nobody knows this codec");

function letter(id: string, headers: Record<string, string> = {}): OutgoingMessage {
  return {
    id,
    key: "k",
    routingKey: "eu.ch",
    headers,
    body: Buffer.alloc(5_000_000),
    contentType: "image/png",
    size: 5_000_000,
    priority: 0,
    delayMs: 0,
    ttlMs: undefined,
  };
}

function record(offset: number, timestamp = 5_000, given: Partial<LogRecord> = {}): LogRecord {
  return { offset, timestamp, key: undefined, value: Buffer.from(`"${offset}"`), headers: {}, ...given };
}

const held = (one: LogRecord, topic = "orders", partition = 2): DeliveredRecord => ({
  topic,
  partition,
  record: one,
  crashes: 0,
});

test("a dead letter says where the record is, instead of its body, and reads back so", () => {
  const reference = referenceTo(held(record(7)), "eu.#");
  expect(reference).toEqual({ topic: "orders", partition: 2, offset: 7, lastOffset: 7, records: 1, timestamp: 5_000 });
  const given = { [HEADER.deadReason]: "attempts", [HEADER.cut]: "a body", colour: "blue" };
  const { body, size, contentType, headers, ...rest } = referringLetter(letter("m", given), reference);
  expect({ ...headers }).toEqual({
    [HEADER.deadReason]: "attempts",
    [HEADER.deadReference]: "orders/2/7",
    colour: "blue",
  });
  expect(readReference(body)).toEqual(reference);
  expect(contentType).toBe("application/json");
  expect(size).toBeLessThan(1_000);
  expect(rest).toMatchObject({ id: "m", key: "k", routingKey: "eu.ch" });
  expect(referringLetter(letter("m".repeat(5_000)), reference).id).toBe("orders-2-7");
});

test("of a batch it says how far that goes, and what of it was asked for", () => {
  const reference = referenceTo(held(unreadableRecord(7, EXTENT, ERROR)), "eu.#");
  expect(reference).toMatchObject({ offset: 7, lastOffset: 9, records: 3, timestamp: 5_000, filter: "eu.#" });
  expect(referringLetter(letter("m"), reference).headers[HEADER.deadReference]).toBe("orders/2/7-9");
});

test("what only looks like one is none", () => {
  const right = referenceTo(held(record(7)), undefined);
  for (const refersTo of [{ ...right, offset: "7" }, { ...right, topic: 3 }, { ...right, filter: 1 }, {}, null, 7]) {
    expect(readReference(Buffer.from(JSON.stringify({ refersTo })))).toBeUndefined();
  }
  for (const text of ["", "{", "null", "7", "{}"]) expect(readReference(Buffer.from(text))).toBeUndefined();
});

function world() {
  const time = new VirtualTime();
  const prng = new Prng("references");
  const broker = new FakeDeadLetters(time);
  const clock = new ProcessClock(time);
  const put = (message: OutgoingMessage): LogRecord => broker.append(deadLetterRecord(message, prng));
  const refer = (to: DeliveredRecord): LogRecord => put(referringLetter(letter("m"), referenceTo(to, undefined)));
  async function lowest(): Promise<Record<string, number>> {
    let isOver = false;
    const read = lowestReferences(broker.openLog(clock)).finally(() => {
      isOver = true;
    });
    read.catch(() => {});
    await time.until(() => isOver, Number.POSITIVE_INFINITY);
    expect(broker.openLogs).toBe(0);
    return Object.fromEntries(await read);
  }
  return { broker, put, refer, lowest };
}

test("what has to stay is told by what stands in the dead letters", async () => {
  const { broker, put, refer, lowest } = world();
  expect(await lowest()).toEqual({});
  put({ ...letter("plain"), body: Buffer.from("{}") });
  const first = refer(held(record(7)));
  refer(held(record(9)));
  refer(held(record(4), "orders", 0));
  refer(held(record(5), "orders.other", 0));
  // The body alone makes no reference.
  put({ ...letter("body"), body: Buffer.from(JSON.stringify({ refersTo: referenceTo(held(record(1)), undefined) })) });
  expect(await lowest()).toEqual({ "orders/2": 7, "orders/0": 4, "orders.other/0": 5 });
  broker.append({ key: first.key?.toString("latin1"), value: undefined, headers: [] } as never);
  expect(await lowest()).toEqual({ "orders/2": 9, "orders/0": 4, "orders.other/0": 5 });
  broker.compact();
  expect(await lowest()).toEqual({ "orders/2": 9, "orders/0": 4, "orders.other/0": 5 });
});

test("dead letters that cannot all be read say nothing of what has to stay", async () => {
  const { broker, refer, lowest } = world();
  refer(held(record(7)));
  broker.unreadable = { offset: 0, error: ERROR, resumeAt: undefined };
  await expect(lowest()).rejects.toBe(ERROR);
  // A batch that nobody is expected to read may hold references nevertheless.
  broker.unreadable = { offset: 0, error: ERROR, resumeAt: 1 };
  await expect(lowest()).rejects.toBe(ERROR);
  broker.unreadable = undefined;
  broker.failure = new MessagingError("unauthorized", "no right");
  await expect(lowest()).rejects.toMatchObject({ code: "unauthorized" });
});

test("references behind an open transaction still count: nothing is said before it ends", async () => {
  const { broker, put, refer, lowest } = world();
  put({ ...letter("plain"), body: Buffer.from("{}") });
  broker.openFrom = broker.end;
  refer(held(record(7)));
  await expect(lowest()).rejects.toMatchObject({ code: "unreachable" });
  broker.openFrom = undefined;
  expect(await lowest()).toEqual({ "orders/2": 7 });
});

test("a leader that does not show every confirmed record yet is read until it does", async () => {
  const reference = referringLetter(letter("m"), referenceTo(held(record(7)), undefined));
  const headers = { [HEADER.deadReference]: Buffer.from("x") };
  const log = logOf([record(0, 0, { key: Buffer.from("m"), value: Buffer.from(reference.body), headers })]);
  let reads = 0;
  const behind: Log = {
    ...log,
    read: async (from, maxWaitMs) => {
      const piece = await log.read(from, maxWaitMs);
      if (piece === "out-of-range" || reads++ > 2) return piece;
      return { ...piece, records: [], nextOffset: from, end: from };
    },
  };
  expect(Object.fromEntries(await lowestReferences(behind))).toEqual({ "orders/2": 7 });
});

/** A log with these records, read three at a time. */
function logOf(records: readonly LogRecord[], given: { first?: number; unreadable?: UnreadableBatch } = {}) {
  const end = (records.at(-1)?.offset ?? -1) + 1;
  const { first = 0, unreadable } = given;
  const log: Log & { isClosed: boolean } = {
    topic: "orders",
    topicId: topicId("orders"),
    partition: 2,
    isClosed: false,
    first: async () => first,
    end: async () => end,
    read: async (from): Promise<Piece | "out-of-range"> => {
      if (from < first || from > end) return "out-of-range";
      const some = records.filter(({ offset }) => offset >= from).slice(0, 3);
      const nextOffset = (some.at(-1)?.offset ?? end - 1) + 1;
      return { records: some, nextOffset, end, openTransaction: false, unreadable };
    },
    close: async () => {
      log.isClosed = true;
    },
  };
  return log;
}

const offsets = (records: readonly { readonly offset: number }[]) => records.map(({ offset }) => offset);
const records = Array.from({ length: 20 }, (_, offset) => record(offset));

test("the records of a reference are read, and no others", async () => {
  const one = referenceTo(held(record(7)), undefined);
  const log = logOf(records);
  expect(offsets(await referredRecords(log, one))).toEqual([7]);
  expect(log.isClosed).toBe(true);
  expect(offsets(await referredRecords(logOf(records), { ...one, lastOffset: 13 }))).toEqual([7, 8, 9, 10, 11, 12, 13]);
  // Offsets may be missing, the first one too.
  const gaps = records.filter(({ offset }) => offset !== 7 && offset !== 9);
  expect(offsets(await referredRecords(logOf(gaps), { ...one, lastOffset: 10 }))).toEqual([8, 10]);
});

test("what is deleted, or of another log by now, is gone; what cannot be read is said", async () => {
  const one = referenceTo(held(record(7)), undefined);
  const codes = async (log: Log, reference = one) => {
    const error = await referredRecords(log, reference).catch((cause: unknown) => cause);
    return isMessagingError(error) ? error.code : error;
  };
  expect(await codes(logOf(records, { first: 8 }))).toBe("not-found");
  expect(await codes(logOf([record(0)]))).toBe("not-found");
  const others = records.map(({ offset }) => record(offset, 6_000));
  expect(await codes(logOf(others))).toBe("not-found");
  expect(await codes(logOf(records.filter(({ offset }) => offset !== 7)))).toBe("not-found");
  const unread = logOf(records.slice(0, 6), { unreadable: { offset: 7, error: ERROR, resumeAt: undefined } });
  expect(await codes(unread, { ...one, offset: 6, lastOffset: 7 })).toBe("unsupported");
});

test("a range that ends beyond the log is gone at once, and one that a new leader does not confirm yet is waited for", async () => {
  const one = referenceTo(held(record(7)), undefined);
  const counted = (log: Log) => {
    const reads: number[] = [];
    const read: Log["read"] = (from, maxWaitMs) => {
      reads.push(from);
      return log.read(from, maxWaitMs);
    };
    return { reads, log: { ...log, read } };
  };
  for (const lastOffset of [20, 1_000, Number.MAX_SAFE_INTEGER]) {
    const { reads, log } = counted(logOf(records));
    await expect(referredRecords(log, { ...one, lastOffset })).rejects.toMatchObject({ code: "not-found" });
    expect(reads).toHaveLength(2);
  }
  const { reads, log } = counted(logOf(records));
  const behind: Log = {
    ...log,
    read: async (from, maxWaitMs) => {
      const piece = await log.read(from, maxWaitMs);
      if (piece === "out-of-range" || reads.length > 6) return piece;
      return { ...piece, records: [], nextOffset: from, end: 5 };
    },
  };
  expect(offsets(await referredRecords(behind, { ...one, lastOffset: 19 }))).toHaveLength(13);
});

test("a dead letter has records of its own destination read, and of no other", async () => {
  const opened: string[] = [];
  const factory = {
    log: ({ topic }: { topic: string }) => {
      opened.push(topic);
      return logOf(records);
    },
  } as unknown as ConsumerFactory;
  const of = { kind: "dead-letters", of: { kind: "subscription", topic: "placed", name: "billing" } } as const;
  const resolve = (body: unknown, headers: Record<string, string> = { [HEADER.deadReference]: "x" }) =>
    resolveReference(factory, of, { ...letter("m", headers), body: Buffer.from(JSON.stringify(body)) } as never);
  const to = (topic: string, filter?: string) => ({
    refersTo: { topic, partition: 2, offset: 7, lastOffset: 8, records: 2, timestamp: 5_000, filter },
  });
  for (const topic of ["placed", "placed..billing", "placed..billing.delays"]) {
    const messages: readonly IncomingMessage[] = await resolve(to(topic));
    expect(messages.map(({ body }) => Buffer.from(body).toString())).toEqual(['"7"', '"8"']);
  }
  expect(await resolve(to("placed", "eu.#"))).toEqual([]);
  opened.length = 0;
  for (const topic of [
    "secrets",
    "placed.delays",
    "placed..billing.dlq",
    "placed..billing.quarantine",
    "placed..mail",
  ]) {
    await expect(resolve(to(topic))).rejects.toMatchObject({ code: "invalid" });
  }
  await expect(resolve(to("placed"), {})).rejects.toMatchObject({ code: "invalid" });
  expect(opened).toEqual([]);
});
