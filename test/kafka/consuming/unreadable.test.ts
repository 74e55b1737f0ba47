import { expect, test } from "vitest";
import { type DeliveredRecord, PartitionLedger } from "../../../adapters/kafka/consuming/partition-ledger.ts";
import { beginning, decodeProgress, encodeProgress, trimmableTo } from "../../../adapters/kafka/consuming/progress.ts";
import { unreadableRecord } from "../../../adapters/kafka/records/read.ts";
import type { SettleResult } from "../../../core/adapter.ts";
import { MessagingError } from "../../../core/errors.ts";
import { identity } from "../topic-ids.ts";
import { type Misread, openScripted, type Scripted } from "./open-scripted.ts";

const ORDERS = identity("orders");

const ERROR = new MessagingError("unsupported", "nobody knows this codec");
const EXTENT = { lastOffset: 9, records: 3, timestamp: 1_000, appendTime: true };

/** Offsets 7 to 9 are a batch that cannot be read. */
const misread: Misread = (decoded, { from }) => {
  if (from > 9 || decoded.nextOffset <= 7) return decoded;
  const records = decoded.records.filter(({ offset }) => offset < 7);
  const nextOffset = Math.max(from, 7);
  return { records, nextOffset, unreadable: { offset: nextOffset, error: ERROR, resumeAt: undefined, extent: EXTENT } };
};

async function opened(given: Partial<Parameters<typeof openScripted>[0]> = {}) {
  const { options, ...more } = given;
  const scripted = await openScripted({
    partitions: 1,
    records: 20,
    ...more,
    options: { deliversUnreadable: true, ...options },
  });
  scripted.script.misread = misread;
  return scripted;
}

/** Settles all of these. */
async function settled(scripted: Scripted, held: readonly DeliveredRecord[]): Promise<void> {
  let results: readonly SettleResult[] | undefined;
  scripted.settle(held).then((all) => {
    results = all;
  });
  expect(await scripted.until(() => results !== undefined)).toBe(true);
  expect(results).toEqual(held.map(() => "settled"));
}

const standing = ({ stored }: Scripted) => stored.get("orders/0");
const at = (held: readonly DeliveredRecord[], offset: number): DeliveredRecord => {
  const found = held.find(({ record }) => record.offset === offset);
  if (found === undefined) throw new Error(`offset ${offset} was not delivered`);
  return found;
};

test("what cannot be read is delivered as one, and what is behind it goes on", async () => {
  const scripted = await opened();
  const readable = [0, 1, 2, 3, 4, 5, 6, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19];
  expect(await scripted.until(() => scripted.held.length === 18)).toBe(true);
  expect(scripted.offsets()).toEqual([0, 1, 2, 3, 4, 5, 6, 7, ...readable.slice(7)]);
  expect(scripted.stalls).toEqual([]);
  const unreadable = at(scripted.held, 7);
  expect(unreadable.record).toMatchObject({ offset: 7, value: undefined, unreadable: { ...EXTENT, error: ERROR } });
  // Finished is everything but what stands for three: somebody else may be able to read each of them.
  const others = scripted.held.filter((one) => one !== unreadable);
  await settled(scripted, others);
  const { offset, metadata } = standing(scripted) ?? { offset: -1, metadata: "" };
  expect(offset).toBe(7);
  expect([...decodeProgress({ offset, metadata }).progress.finished]).toEqual(readable.slice(7));
  await settled(scripted, [unreadable]);
  expect(standing(scripted)?.offset).toBe(20);
});

test("after a restart it is delivered again; who can read it gets what was not finished", async () => {
  const scripted = await opened();
  await scripted.until(() => scripted.held.length === 18);
  await settled(
    scripted,
    scripted.held.filter(({ record }) => record.unreadable === undefined),
  );
  const committed = new Map([[0, standing(scripted) ?? { offset: -1, metadata: "" }]]);
  const again = await opened({ committed });
  expect(await again.until(() => again.held.length === 1)).toBe(true);
  expect(again.offsets()).toEqual([7]);
  const able = await openScripted({ partitions: 1, records: 20, committed });
  expect(await able.until(() => able.held.length === 3)).toBe(true);
  expect(able.offsets()).toEqual([7, 8, 9]);
});

test("where its records are finished but one, it is not passed over", () => {
  const progress = decodeProgress({ offset: 7, metadata: encodeProgress(beginning(7), ORDERS) }).progress;
  const ledger = new PartitionLedger({ topic: "orders", partition: 0 }, progress);
  ledger.takeOver(Number.POSITIVE_INFINITY);
  ledger.append([7, 8, 9, 10].map(plain), 11);
  const taken = [ledger.take(), ledger.take(), ledger.take(), ledger.take()];
  for (const entry of [taken[0], taken[2], taken[3]]) if (entry !== undefined) ledger.finish(entry);
  const restored = (): PartitionLedger => {
    const { offset, ...rest } = ledger.progress(11);
    const metadata = encodeProgress({ offset, ...rest }, ORDERS);
    const next = decodeProgress({ offset, metadata }).progress;
    const one = new PartitionLedger({ topic: "orders", partition: 0 }, next);
    one.takeOver(Number.POSITIVE_INFINITY);
    one.append([unreadableRecord(next.offset, EXTENT, ERROR), plain(10)], 11);
    return one;
  };
  expect(restored().take()?.record.offset).toBe(8);
  if (taken[1] !== undefined) ledger.finish(taken[1]);
  expect(ledger.prefix).toBe(11);
});

function plain(offset: number) {
  return { offset, timestamp: 0, key: undefined, value: Buffer.from("x"), headers: {} };
}

test("a record that a dead letter refers to stays when it is finished, also after a restart, until a review", async () => {
  const reviews: ("found" | "none" | "fails")[] = [];
  const references = async () => {
    const next = reviews.shift() ?? "found";
    if (next === "fails") throw new Error("no right to read them");
    return new Map(next === "found" ? [["orders/0", 3]] : []);
  };
  const scripted = await opened({ options: { references } });
  await scripted.until(() => scripted.held.length === 18);
  const referred = at(scripted.held, 3);
  const written = scripted.consumer.keep(referred);
  await settled(scripted, scripted.held);
  written?.();
  expect(standing(scripted)?.offset).toBe(20);
  expect(kept(scripted)).toBe(3);
  // What is settled is not ours to keep.
  expect(scripted.consumer.keep(referred)).toBeUndefined();

  const committed = new Map([[0, standing(scripted) ?? { offset: -1, metadata: "" }]]);
  const again = await opened({ committed, options: { references } });
  reviews.push("fails", "found");
  await again.pass(1_500_000);
  expect(reviews).toEqual([]);
  await settled(again, again.held);
  expect(kept(again)).toBe(3);
  reviews.push("none");
  expect(await again.until(() => kept(again) === 20, 1_000_000)).toBe(true);
});

function kept(scripted: Scripted): number {
  const { offset, metadata } = standing(scripted) ?? { offset: -1, metadata: "" };
  return trimmableTo(decodeProgress({ offset, metadata }).progress);
}
