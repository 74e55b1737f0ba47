import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { expect, test } from "vitest";
import { AT } from "../../../adapters/kafka/records/batch.ts";
import { encodeRecordBatch } from "../../../adapters/kafka/records/encode.ts";
import { MessagingError } from "../../../core/errors.ts";
import { decode, decodeNow, record, stored, valuesOf, withChecksum } from "./batches.ts";

const GZIP = 1;
const first = stored({ records: [record("a", [["h", "x"]]), record("b")] });
const second = stored({ records: [record("c"), record("d")], baseOffset: 2 });
const log = Buffer.concat([first, second]);

/** A batch whose records are the gzip of the bytes. */
function gzipped(records: Buffer, count: number): Buffer {
  const head = Buffer.from(first.subarray(0, AT.records));
  const batch = Buffer.concat([head, gzipSync(records)]);
  batch.writeInt32BE(batch.length - 12, AT.length);
  batch.writeInt16BE(GZIP, AT.attributes);
  batch.writeInt32BE(count - 1, AT.lastOffsetDelta);
  batch.writeInt32BE(count, AT.count);
  return withChecksum(batch);
}

test("a batch cut off anywhere is left for the next fetch; a first one is said to be", () => {
  for (let length = first.length; length < log.length; length++) {
    const { records, nextOffset, unreadable } = decodeNow(log.subarray(0, length));
    expect(valuesOf(records)).toEqual(["a", "b"]);
    expect([nextOffset, unreadable]).toEqual([2, undefined]);
  }
  for (let length = 1; length < first.length; length++) {
    const { records, nextOffset, unreadable } = decodeNow(log.subarray(0, length));
    expect([records, nextOffset]).toEqual([[], 0]);
    expect(unreadable).toMatchObject({ offset: 0, resumeAt: undefined });
  }
  expect(decodeNow(Buffer.alloc(0), { from: 9 })).toEqual({ records: [], nextOffset: 9, unreadable: undefined });
});

test("any changed bit behind the checksum is seen, and what stands before it is read", () => {
  for (let at = first.length + AT.crc; at < log.length; at++) {
    const damaged = Buffer.from(log);
    damaged[at] = (damaged[at] as number) ^ (1 << (at % 8));
    const { records, nextOffset, unreadable } = decodeNow(damaged);
    expect(valuesOf(records)).toEqual(["a", "b"]);
    expect(nextOffset).toBe(2);
    expect(unreadable).toMatchObject({ offset: 2, resumeAt: undefined, error: { code: "invalid" } });
    expect(unreadable?.error.message).toContain('offset 2 of "t", partition 3');
  }
});

test("no bytes whatever make it throw, go backwards or lose what was readable before them", async () => {
  const edits = fc.array(fc.tuple(fc.nat(log.length - 1), fc.nat(255)), { minLength: 1, maxLength: 6 });
  await fc.assert(
    fc.asyncProperty(edits, fc.boolean(), fc.nat(5), async (changes, keepChecksum, from) => {
      const bytes = Buffer.from(log);
      for (const [at, byte] of changes) bytes[at] = byte;
      if (!keepChecksum) withChecksum(bytes.subarray(0, first.length));
      const { records, nextOffset, unreadable } = await decode(bytes, { from });
      expect(nextOffset).toBeGreaterThanOrEqual(from);
      let least = from;
      for (const { offset } of records) {
        expect(offset).toBeGreaterThanOrEqual(least);
        least = offset + 1;
      }
      expect(nextOffset).toBeGreaterThanOrEqual(least);
      if (unreadable !== undefined) {
        expect(unreadable.error).toBeInstanceOf(MessagingError);
        expect(unreadable.offset).toBe(nextOffset);
        if (unreadable.resumeAt !== undefined) expect(unreadable.resumeAt).toBeGreaterThanOrEqual(nextOffset);
      }
    }),
    { numRuns: 2_000 },
  );
});

test("random records under a right checksum never make it throw", async () => {
  const body = fc.uint8Array({ maxLength: 300 });
  await fc.assert(
    fc.asyncProperty(body, fc.integer(), fc.integer(), fc.nat(63), async (records, count, delta, attributes) => {
      const batch = Buffer.concat([first.subarray(0, AT.records), records]);
      batch.writeInt32BE(batch.length - 12, AT.length);
      batch.writeInt16BE(attributes, AT.attributes);
      batch.writeInt32BE(delta, AT.lastOffsetDelta);
      batch.writeInt32BE(count, AT.count);
      const aborted = [{ producerId: 7n, firstOffset: 0 }];
      const decoded = await decode(withChecksum(batch), { abortedTransactions: aborted });
      expect(decoded.records.length).toBeLessThanOrEqual(records.length);
    }),
    { numRuns: 2_000 },
  );
});

test("a wrong count of records is seen, and where to go on behind it", () => {
  const more = stored({ records: [record("a"), record("b")], edit: (batch) => batch.writeInt32BE(3, AT.count) });
  expect(decodeNow(more)).toMatchObject({
    records: [{ offset: 0 }, { offset: 1 }],
    nextOffset: 2,
    unreadable: { offset: 2, error: { code: "invalid" } },
  });
  const fewer = stored({ records: [record("a"), record("b")], edit: (batch) => batch.writeInt32BE(1, AT.count) });
  expect(decodeNow(fewer)).toMatchObject({ nextOffset: 1, unreadable: { offset: 1, resumeAt: 2 } });
  const negative = stored({ records: [record("a")], edit: (batch) => batch.writeInt32BE(-1, AT.count) });
  expect(decodeNow(negative).unreadable?.error.code).toBe("invalid");
});

test("batches whose offsets go back are not read", () => {
  const { records, unreadable } = decodeNow(Buffer.concat([second, first]));
  expect(valuesOf(records)).toEqual(["c", "d"]);
  expect(unreadable).toMatchObject({ offset: 4, error: { code: "invalid" } });
});

test.each([0, 1, 3])("format version %i is refused by name", (magic) => {
  const bytes = Buffer.from(first);
  bytes[AT.magic] = magic;
  const { unreadable } = decodeNow(bytes);
  expect(unreadable).toMatchObject({ offset: 0, resumeAt: undefined, error: { code: "unsupported" } });
  expect(unreadable?.error.message).toContain(`version ${magic}`);
});

test("a compression of no known number is refused, and how far its batch goes is said", () => {
  const given = { records: [record("a"), record("b")], attributes: 5 };
  const bytes = Buffer.concat([first, stored({ ...given, baseOffset: 2 })]);
  expect(decodeNow(bytes).unreadable).toMatchObject({
    offset: 2,
    resumeAt: undefined,
    error: { code: "unsupported", message: expect.stringContaining("unknown number 5") },
    extent: { lastOffset: 3, records: 2, timestamp: 1_000, appendTime: false },
  });
  // From within the batch on.
  expect(decodeNow(bytes, { from: 3 }).unreadable).toMatchObject({ offset: 3, extent: { lastOffset: 3 } });
});

test("how far a batch goes is said only where its checksum is right, and what could be read does not count", () => {
  const more = stored({ records: [record("a"), record("b")], edit: (batch) => batch.writeInt32BE(3, AT.count) });
  more.writeInt32BE(2, AT.lastOffsetDelta);
  expect(decodeNow(withChecksum(more)).unreadable).toMatchObject({
    offset: 2,
    extent: { lastOffset: 2, records: 1 },
  });
  const damaged = Buffer.from(first);
  damaged[first.length - 1] = (first[first.length - 1] as number) ^ 1;
  expect(decodeNow(damaged).unreadable?.extent).toBeUndefined();
  const control = stored({ records: [record("?")], attributes: 0x20 | 5 });
  const aborted = { abortedTransactions: [{ producerId: 7n, firstOffset: 0 }] };
  expect(decodeNow(control, aborted).unreadable).toMatchObject({ extent: undefined });
});

test("headers over the limits are not read; the record and those behind it are", () => {
  const many = Array.from({ length: 5_000 }, () => ["", ""] as const);
  const batch = stored({
    records: [record("a"), record("b", many), record("c", [["h", "x".repeat(500)]]), record("d")],
  });
  const { records, unreadable } = decodeNow(batch, { limits: { maxHeaderBytes: 400, maxHeaders: 4_999 } });
  expect(unreadable).toBe(undefined);
  expect(valuesOf(records)).toEqual(["a", "b", "c", "d"]);
  expect(records.map(({ problem }) => problem?.code)).toEqual([undefined, "too-large", "too-large", undefined]);
  expect(records[1]?.problem?.message).toContain('offset 1 of "t", partition 3');
  expect(Object.keys(records[1]?.headers ?? { none: 1 })).toEqual([]);
});

test("what inflates without end is refused, with where to go on behind it", async () => {
  const batch = gzipped(Buffer.alloc(50_000_000), 4);
  expect(batch.length).toBeLessThan(60_000);
  const { records, nextOffset, unreadable } = await decode(Buffer.concat([batch]), {
    limits: { maxInflatedBytes: 1e6 },
  });
  expect([records, nextOffset]).toEqual([[], 0]);
  expect(unreadable).toMatchObject({ offset: 0, resumeAt: 4, error: { code: "too-large" } });
  expect(unreadable?.error.message).toContain('offset 0 of "t", partition 3');
});

test("many batches that inflate to much are read in several calls", async () => {
  const compressed: Buffer[] = [];
  for (let index = 0; index < 6; index++) {
    const one = { producerId: 1n, epoch: 0, firstSequence: 0, timestamp: 0, compression: "gzip" } as const;
    const batch = await encodeRecordBatch([record("x".repeat(1_000))], one);
    batch.writeBigInt64BE(BigInt(index));
    compressed.push(batch);
  }
  const bytes = Buffer.concat(compressed);
  let from = 0;
  let calls = 0;
  while (from < 6) {
    const { records, nextOffset } = await decode(bytes, { from, limits: { maxInflatedBytes: 1_500 } });
    expect(records.map(({ offset }) => offset)).toEqual([from, from + 1]);
    from = nextOffset;
    calls++;
  }
  expect(calls).toBe(3);
});

test("damaged compressed data is refused, with where to go on behind it", async () => {
  const batch = gzipped(Buffer.from("no records"), 1);
  batch[AT.records + 12] = (batch[AT.records + 12] as number) ^ 0xff;
  expect((await decode(withChecksum(batch))).unreadable).toMatchObject({ resumeAt: 1, error: { code: "invalid" } });
  expect((await decode(gzipped(Buffer.from("no records"), 1))).unreadable).toMatchObject({ resumeAt: 1 });
});

test("very many records are read in several calls, each once", () => {
  const batch = stored({ records: Array.from({ length: 25 }, (_, index) => record(String(index))) });
  const read: (string | undefined)[] = [];
  for (let from = 0; from < 25; ) {
    const { records, nextOffset } = decodeNow(batch, { from, limits: { maxRecords: 10 } });
    expect(records.length).toBeLessThanOrEqual(10);
    read.push(...valuesOf(records));
    expect(nextOffset).toBe(read.length);
    from = nextOffset;
  }
  expect(read).toEqual(Array.from({ length: 25 }, (_, index) => String(index)));
});
