import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  beginning,
  decodeProgress,
  encodeProgress,
  isOurs,
  isReadable,
  MAX_AHEAD,
  OffsetSet,
  type Progress,
  progressIn,
  trimmableTo,
  withCrash,
} from "../../../adapters/kafka/consuming/progress.ts";
import { identity, topicId } from "../topic-ids.ts";

const ORDERS = identity("orders");
/** What Kafka takes unless told otherwise (`offset.metadata.max.bytes`). */
const MAX_BYTES = 4096;

const progresses = fc
  .record({
    offset: fc.oneof(fc.nat(20_000), fc.integer({ min: 2 ** 31 - 5_000, max: 2 ** 40 })),
    watermark: fc.nat(20_000),
    crashes: fc.array(fc.nat(30_000), { maxLength: 64 }),
    finished: fc.array(fc.nat(MAX_AHEAD - 1), { maxLength: 300 }),
    kept: fc.option(fc.nat(2 ** 31 - 1), { nil: undefined }),
  })
  .map(({ offset, watermark, crashes, finished, kept }): Progress => {
    return {
      offset,
      watermark: offset + watermark,
      crashes: crashes.map((above) => offset + above).sort((one, other) => one - other),
      finished: OffsetSet.of(
        offset,
        finished.map((above) => offset + above),
      ),
      kept: kept === undefined ? undefined : Math.min(kept, offset + watermark),
    };
  });

function plain(progress: Progress | undefined): unknown {
  if (progress === undefined) return undefined;
  const { offset, watermark, crashes, finished, kept } = progress;
  return { offset, watermark, crashes: [...crashes], finished: [...finished], kept };
}

describe("progress beside a committed offset", () => {
  it("is read back as it was written", () => {
    fc.assert(
      fc.property(progresses, (progress) => {
        const metadata = encodeProgress(progress, ORDERS);
        expect(isOurs(metadata) && isReadable(metadata)).toBe(true);
        const read = decodeProgress({ offset: progress.offset, metadata });
        expect(read.of).toEqual(ORDERS);
        expect(plain(read.progress)).toEqual(plain(progress));
        expect(plain(progressIn(ORDERS, { offset: progress.offset, metadata }))).toEqual(plain(progress));
      }),
    );
  });

  it("says how far what is finished may be deleted", () => {
    fc.assert(
      fc.property(progresses, (progress) => {
        const { offset } = progress;
        const to = trimmableTo(decodeProgress({ offset, metadata: encodeProgress(progress, ORDERS) }).progress);
        expect(to).toBe(Math.min(progress.offset, progress.kept ?? progress.offset));
      }),
    );
    expect(trimmableTo(decodeProgress({ offset: 7, metadata: "of somebody else" }).progress)).toBe(7);
  });

  it("fits what Kafka takes, however much there is of it", () => {
    const offset = Number.MAX_SAFE_INTEGER - 2 ** 50;
    const every = Array.from({ length: 3 * MAX_AHEAD }, (_, index) => offset + index);
    const progress: Progress = {
      offset,
      watermark: offset + 2 ** 49,
      crashes: Array.from({ length: 500 }, (_, index) => offset + 2 ** 49 + index),
      finished: OffsetSet.of(offset, every),
      kept: 0,
    };
    const metadata = encodeProgress(progress, ORDERS);
    expect(Buffer.byteLength(metadata)).toBeLessThanOrEqual(MAX_BYTES);
    const read = decodeProgress({ offset, metadata }).progress;
    expect(read.crashes).toEqual(progress.crashes.slice(-64));
    expect([...read.finished]).toEqual(every.slice(0, MAX_AHEAD));
  });

  it("says nothing where it was written by others, or is damaged", () => {
    const mark = `anybroker:2:${ORDERS.place}:${ORDERS.id}:7:`;
    const foreign = ["", "kafkajs", "{}", "anybroker:1:a:b:c", "anybroker:2:", mark, `${mark}0::=`, `${mark}-1::`];
    for (const metadata of foreign) {
      expect(isReadable(metadata)).toBe(false);
      expect(decodeProgress({ offset: 7, metadata }).of).toBeUndefined();
      expect(plain(progressIn(ORDERS, { offset: 7, metadata }))).toEqual(plain(beginning(7)));
    }
    expect(foreign.filter(isOurs)).toEqual(foreign.slice(3));
  });

  it("is never misread into an offset that it does not have", () => {
    fc.assert(
      fc.property(
        fc.nat(),
        fc.oneof(
          fc.string(),
          fc.string().map((text) => `anybroker:2:${ORDERS.place}:${ORDERS.id}:${text}`),
        ),
        (offset, metadata) => {
          const { offset: read, watermark, crashes } = decodeProgress({ offset, metadata }).progress;
          expect(read).toBe(offset);
          expect(watermark).toBeGreaterThanOrEqual(offset);
          for (const crash of crashes) expect(crash).toBeGreaterThanOrEqual(offset);
        },
      ),
    );
    const metadata = `anybroker:2:${ORDERS.place}:${ORDERS.id}:5:zzzzzzzzzzz::`;
    expect(plain(decodeProgress({ offset: 5, metadata }).progress)).toEqual(plain(beginning(5)));
  });

  it("counts only for the offset that it was written for", () => {
    const progress: Progress = { offset: 30, watermark: 50, crashes: [40], finished: OffsetSet.of(30, [31, 33]) };
    const metadata = encodeProgress(progress, ORDERS);
    for (const offset of [0, 29, 31, 3_000]) {
      expect(plain(progressIn(ORDERS, { offset, metadata }))).toEqual(plain(beginning(offset)));
    }
  });

  it("leaves its offset alone where it came from another cluster, or another name", () => {
    const progress: Progress = { offset: 30, watermark: 50, crashes: [40], finished: OffsetSet.of(30, [31, 33]) };
    const metadata = encodeProgress(progress, ORDERS);
    const mirrored = [identity("orders", 1, "the other cluster"), identity("source.orders")];
    for (const topic of [...mirrored, identity("orders", 7, "the other cluster")]) {
      // The offset is translated; the same by chance, or because the mirror began with the first record.
      for (const offset of [30, 12]) {
        const read = progressIn({ ...topic, id: topicId("the copy") }, { offset, metadata });
        expect(plain(read)).toEqual(plain(beginning(offset)));
      }
    }
  });

  it("says nothing of a topic that was made again after it was written", () => {
    const commit = { offset: 30, metadata: encodeProgress(beginning(30), ORDERS) };
    expect(progressIn(identity("orders", 2), commit)).toBeUndefined();
    expect(progressIn(ORDERS, { offset: -1, metadata: "" })).toBeUndefined();
    // Set by somebody since, who knows.
    expect(plain(progressIn(identity("orders", 2), { ...commit, offset: 4 }))).toEqual(plain(beginning(4)));
    expect(plain(progressIn(identity("orders", 2), { offset: 30, metadata: "" }))).toEqual(plain(beginning(30)));
  });

  it("keeps the crashes that reach farthest", () => {
    let crashes: readonly number[] = [];
    for (let watermark = 1; watermark <= 70; watermark++)
      crashes = withCrash(crashes, watermark % 2 === 0 ? watermark : 100 - watermark);
    expect(crashes).toHaveLength(64);
    expect([...crashes]).toEqual([...crashes].sort((one, other) => one - other));
    expect(crashes.at(-1)).toBe(99);
  });
});
