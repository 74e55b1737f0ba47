// Record batches by senders who write whatever they like, with checksums that are right.
import { gzipSync } from "node:zlib";
import fc from "fast-check";
import { expect, test } from "vitest";
import { delayOf } from "../../adapters/kafka/delays/levels.ts";
import { incomingRecord, routingKeyOf } from "../../adapters/kafka/message-codec.ts";
import { AT, LENGTH_COVERS_FROM } from "../../adapters/kafka/records/batch.ts";
import { decodeRecords } from "../../adapters/kafka/records/decode.ts";
import { encodeRecordBatch } from "../../adapters/kafka/records/encode.ts";
import { isMessagingError } from "../../core/errors.ts";
import { withChecksum } from "../kafka/records/batches.ts";
import { fuzzing } from "./runs.ts";

const LIMITS = { maxInflatedBytes: 100_000, maxHeaders: 20, maxHeaderBytes: 1_000, maxRecords: 50 };
const GZIP = 1;

const text = fc.oneof(fc.string({ maxLength: 8 }), fc.constantFrom("anybroker-id", "anybroker-routing-key"));
const bytes = fc.uint8Array({ maxLength: 40 }).map((value) => Buffer.from(value));

const written = fc.array(
  fc.record({
    key: fc.option(bytes, { nil: undefined }),
    value: fc.option(bytes, { nil: undefined }),
    headers: fc.array(fc.tuple(text, text), { maxLength: 25 }),
  }),
  { minLength: 1, maxLength: 8 },
);

/** A batch that was well before it was changed here and there. */
const batch = fc
  .record({
    records: fc.oneof(
      written.map((records) => {
        const nobody = { producerId: 7n, epoch: 0, firstSequence: 0, timestamp: 1_000 };
        return encodeRecordBatch(records, nobody).subarray(AT.records);
      }),
      bytes,
    ),
    baseOffset: fc.oneof(fc.nat(100), fc.constantFrom(-1, 2 ** 53 - 2)),
    last: fc.oneof(fc.nat(10), fc.integer()),
    count: fc.oneof(fc.nat(10), fc.integer()),
    attributes: fc.oneof(fc.constantFrom(0, 0, 0x08, 0x10, 0x20, 2, 3), fc.nat(0xff)),
    isCompressed: fc.boolean(),
    edits: fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 3 }),
    length: fc.option(fc.integer(), { nil: undefined, freq: 10 }),
  })
  .map(({ records, baseOffset, last, count, attributes, isCompressed, edits, length }) => {
    const edited = Buffer.from(records);
    for (const [at, value] of edits) if (edited.length > 0) edited[at % edited.length] = value;
    const body = isCompressed ? gzipSync(edited) : edited;
    const whole = Buffer.concat([Buffer.alloc(AT.records), body]);
    whole.writeBigInt64BE(BigInt(baseOffset), AT.baseOffset);
    whole.writeInt32BE(length ?? whole.length - LENGTH_COVERS_FROM, AT.length);
    whole.writeInt8(2, AT.magic);
    whole.writeInt16BE(isCompressed ? (attributes & ~7) | GZIP : attributes, AT.attributes);
    whole.writeInt32BE(last, AT.lastOffsetDelta);
    whole.writeInt32BE(count, AT.count);
    return withChecksum(whole);
  });

const piece = fc.oneof(
  fc.tuple(fc.array(batch, { minLength: 1, maxLength: 3 }), fc.nat(20)).map(([batches, cut]) => {
    const all = Buffer.concat(batches);
    return all.subarray(0, Math.max(all.length - (cut > 10 ? cut : 0), 0));
  }),
  fc.uint8Array({ maxLength: 200 }).map((value) => Buffer.from(value)),
);

const options = fc.record({
  from: fc.nat(20),
  abortedTransactions: fc.array(fc.record({ producerId: fc.constantFrom(0n, 7n), firstOffset: fc.nat(20) }), {
    maxLength: 2,
  }),
});

test("whatever stands in a log is read, or is told to be unreadable", async () => {
  await fc.assert(
    fc.asyncProperty(piece, options, async (log, { from, abortedTransactions }) => {
      const of = { topic: "t", partition: 0 };
      const decoded = await decodeRecords(log, { ...of, from, abortedTransactions, limits: LIMITS });
      let next = from;
      for (const record of decoded.records) {
        expect(record.offset).toBeGreaterThanOrEqual(next);
        next = record.offset + 1;
        const message = incomingRecord(of, record, undefined, 0);
        expect(message.routingKey).toBe(routingKeyOf(record));
        expect(Object.keys(record.headers).length).toBeLessThanOrEqual(LIMITS.maxHeaders);
        delayOf(record);
      }
      expect(decoded.records.length).toBeLessThanOrEqual(LIMITS.maxRecords);
      expect(decoded.nextOffset).toBeGreaterThanOrEqual(next);
      expect(Number.isSafeInteger(decoded.nextOffset)).toBe(true);
      const { unreadable } = decoded;
      if (unreadable === undefined) return;
      expect(isMessagingError(unreadable.error)).toBe(true);
      // Whoever reads on behind it gets further, or has got further already.
      const { extent } = unreadable;
      if (extent !== undefined && decoded.nextOffset === from) expect(extent.lastOffset).toBeGreaterThanOrEqual(from);
    }),
    fuzzing(),
  );
});
