import { expect, test } from "vitest";
import { AT, CONTROL, LOG_APPEND_TIME, TRANSACTIONAL } from "../../../adapters/kafka/records/batch.ts";
import { decodeNow, record, stored, valuesOf, withChecksum } from "./batches.ts";

/** The mark that ends a transaction. */
function marker(type: "abort" | "commit", producerId: bigint, baseOffset: number): Buffer {
  const key = Buffer.from([0, 0, 0, type === "abort" ? 0 : 1]);
  const records = [{ key, value: Buffer.alloc(6), headers: [] }];
  return stored({ records, producerId, baseOffset, attributes: CONTROL | TRANSACTIONAL });
}

function transactional(value: string, producerId: bigint, baseOffset: number): Buffer {
  return stored({ records: [record(value)], producerId, baseOffset, attributes: TRANSACTIONAL });
}

test("aborted transactions and control records are left out, committed ones kept, whoever wrote them", () => {
  const bytes = Buffer.concat([
    transactional("aborted 1", 1n, 0),
    transactional("committed 2", 2n, 1),
    stored({ records: [record("plain 1")], producerId: 1n, baseOffset: 2 }),
    marker("abort", 1n, 3),
    transactional("committed 1", 1n, 4),
    marker("commit", 2n, 5),
    marker("commit", 1n, 6),
    transactional("aborted 2", 2n, 7),
    transactional("aborted again 1", 1n, 8),
    marker("abort", 2n, 9),
    marker("abort", 1n, 10),
    transactional("at last 1", 1n, 11),
  ]);
  const abortedTransactions = [
    { producerId: 2n, firstOffset: 7 },
    { producerId: 1n, firstOffset: 0 },
    { producerId: 1n, firstOffset: 8 },
  ];
  const { records, nextOffset, unreadable } = decodeNow(bytes, { abortedTransactions });
  expect(valuesOf(records)).toEqual(["committed 2", "plain 1", "committed 1", "at last 1"]);
  expect([nextOffset, unreadable]).toEqual([12, undefined]);
  // From the middle of an aborted transaction on.
  const tail = decodeNow(bytes.subarray(transactional("aborted 1", 1n, 0).length), { from: 1, abortedTransactions });
  expect(valuesOf(tail.records)).toEqual(["committed 2", "plain 1", "committed 1", "at last 1"]);
});

test("nothing to read still moves on", () => {
  expect(decodeNow(marker("commit", 1n, 7), { from: 7 })).toEqual({
    records: [],
    nextOffset: 8,
    unreadable: undefined,
  });
  const abortedTransactions = [{ producerId: 1n, firstOffset: 4 }];
  expect(decodeNow(transactional("x", 1n, 4), { from: 4, abortedTransactions })).toEqual({
    records: [],
    nextOffset: 5,
    unreadable: undefined,
  });
});

test("an end of a transaction that says nothing is not passed over while one is open", () => {
  const odd = stored({ records: [record("x")], producerId: 1n, baseOffset: 1, attributes: CONTROL | TRANSACTIONAL });
  const bytes = Buffer.concat([transactional("aborted", 1n, 0), odd, transactional("kept", 1n, 2)]);
  const { records, unreadable } = decodeNow(bytes, { abortedTransactions: [{ producerId: 1n, firstOffset: 0 }] });
  expect(records).toEqual([]);
  expect(unreadable).toMatchObject({ offset: 1, error: { code: "invalid" } });
});

test("holes of compaction are no problem: missing records, batches and whole contents", () => {
  const bytes = Buffer.concat([
    // Two records left of ten, then a batch left without any, then a gap.
    stored({
      records: [record("a"), record("b")],
      baseOffset: 5,
      edit: (batch) => batch.writeInt32BE(9, AT.lastOffsetDelta),
    }),
    emptyBatch(20, 29),
    stored({ records: [record("c")], baseOffset: 100 }),
  ]);
  const { records, nextOffset, unreadable } = decodeNow(bytes, { from: 3 });
  expect(records.map(({ offset }) => offset)).toEqual([5, 6, 100]);
  expect([nextOffset, unreadable]).toEqual([101, undefined]);
  expect(decodeNow(bytes.subarray(0, bytes.length - 1), { from: 7 })).toMatchObject({ records: [], nextOffset: 30 });
});

function emptyBatch(baseOffset: number, lastOffset: number): Buffer {
  const full = stored({ records: [record("")], baseOffset });
  const batch = Buffer.from(full.subarray(0, AT.records));
  batch.writeInt32BE(AT.records - AT.leaderEpoch, AT.length);
  batch.writeInt32BE(0, AT.count);
  batch.writeInt32BE(lastOffset - baseOffset, AT.lastOffsetDelta);
  return withChecksum(batch);
}

test("what comes before the offset asked for is left out", () => {
  const bytes = stored({ records: ["a", "b", "c"].map((value) => record(value)), baseOffset: 10 });
  expect(valuesOf(decodeNow(bytes, { from: 11 }).records)).toEqual(["b", "c"]);
  expect(decodeNow(bytes, { from: 13 })).toEqual({ records: [], nextOffset: 13, unreadable: undefined });
});

test("the broker's time counts where the topic says so", () => {
  const bytes = stored({
    records: [record("a")],
    attributes: LOG_APPEND_TIME,
    edit: (batch) => batch.writeBigInt64BE(5_000n, AT.maxTimestamp),
  });
  expect(decodeNow(bytes).records[0]?.timestamp).toBe(5_000);
});
