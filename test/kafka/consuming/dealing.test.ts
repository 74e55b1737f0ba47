import { expect, test } from "vitest";
import { beginning, encodeProgress } from "../../../adapters/kafka/consuming/progress.ts";
import { identity } from "../topic-ids.ts";
import { openScripted } from "./open-scripted.ts";

/** The first ten records of each partition were in the hands of two that died, and the first five in those of a third. */
const leftBehind = (partitions: number) => {
  const metadata = encodeProgress({ ...beginning(0), watermark: 10, crashes: [5, 10] }, identity("orders"));
  return new Map(Array.from({ length: partitions }, (_, partition) => [partition, { offset: 0, metadata }]));
};

test("what those who died held comes in a full batch, from all partitions", async () => {
  const committed = leftBehind(4);
  const scripted = await openScripted({ partitions: 4, records: 10, committed, options: { prefetch: 40 } });
  expect(await scripted.until(() => scripted.held.length === 40)).toBe(true);
  for (const partition of [0, 1, 2, 3]) {
    const held = scripted.held.filter((one) => one.partition === partition);
    expect(held.map(({ record, crashes }) => [record.offset, crashes])).toEqual(
      Array.from({ length: 10 }, (_, offset) => [offset, offset < 5 ? 3 : 2]),
    );
  }
});

test("a record that somebody died over holds up no other while it is at work", async () => {
  const committed = leftBehind(3);
  const scripted = await openScripted({ partitions: 3, records: 10, committed, options: { prefetch: 4 } });
  let seen = 1;
  const all = (): boolean => {
    const more = scripted.held.slice(seen);
    seen += more.length;
    if (more.length > 0) void scripted.settle(more);
    return seen === 30;
  };
  expect(await scripted.until(all)).toBe(true);
  expect(scripted.held[0]?.crashes).toBeGreaterThan(0);
});
