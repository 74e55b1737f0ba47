import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { OffsetSet } from "../../../adapters/kafka/consuming/offset-set.ts";
import {
  beginning,
  decodeProgress,
  encodeProgress,
  isOurs,
  isReadable,
  MOST_AHEAD,
  type Progress,
  trimmableTo,
  withDeath,
} from "../../../adapters/kafka/consuming/progress.ts";

/** What Kafka takes unless told otherwise (`offset.metadata.max.bytes`). */
const MOST_BYTES = 4096;

const progresses = fc
  .record({
    offset: fc.oneof(fc.nat(20_000), fc.integer({ min: 2 ** 31 - 5_000, max: 2 ** 40 })),
    reach: fc.nat(20_000),
    deaths: fc.array(fc.nat(30_000), { maxLength: 64 }),
    finished: fc.array(fc.nat(MOST_AHEAD - 1), { maxLength: 300 }),
    kept: fc.option(fc.nat(2 ** 31 - 1), { nil: undefined }),
  })
  .map(({ offset, reach, deaths, finished, kept }): Progress => {
    return {
      offset,
      reach: offset + reach,
      deaths: deaths.map((above) => offset + above).sort((one, other) => one - other),
      finished: OffsetSet.of(
        offset,
        finished.map((above) => offset + above),
      ),
      kept: kept === undefined ? undefined : Math.min(kept, offset + reach),
    };
  });

function plain({ offset, reach, deaths, finished, kept }: Progress): unknown {
  return { offset, reach, deaths: [...deaths], finished: [...finished], kept };
}

describe("progress beside a committed offset", () => {
  it("is read back as it was written", () => {
    fc.assert(
      fc.property(progresses, (progress) => {
        const metadata = encodeProgress(progress);
        expect(isOurs(metadata) && isReadable(metadata)).toBe(true);
        expect(plain(decodeProgress(progress.offset, metadata))).toEqual(plain(progress));
      }),
    );
  });

  it("says how far what is finished may be deleted", () => {
    fc.assert(
      fc.property(progresses, (progress) => {
        const to = trimmableTo(progress.offset, encodeProgress(progress));
        expect(to).toBe(Math.min(progress.offset, progress.kept ?? progress.offset));
      }),
    );
    expect(trimmableTo(7, "of somebody else")).toBe(7);
  });

  it("fits what Kafka takes, however much there is of it", () => {
    const offset = Number.MAX_SAFE_INTEGER - 2 ** 50;
    const every = Array.from({ length: 3 * MOST_AHEAD }, (_, index) => offset + index);
    const progress: Progress = {
      offset,
      reach: offset + 2 ** 49,
      deaths: Array.from({ length: 500 }, (_, index) => offset + 2 ** 49 + index),
      finished: OffsetSet.of(offset, every),
      kept: 0,
    };
    const metadata = encodeProgress(progress);
    expect(Buffer.byteLength(metadata)).toBeLessThanOrEqual(MOST_BYTES);
    const read = decodeProgress(offset, metadata);
    expect(read.deaths).toEqual(progress.deaths.slice(-64));
    expect([...read.finished]).toEqual(every.slice(0, MOST_AHEAD));
  });

  it("says nothing where it was written by others, or is damaged", () => {
    const foreign = ["", "kafkajs", "{}", "anybroker:2:a:b:c", "anybroker:1:", "anybroker:1:0::=", "anybroker:1:-1::"];
    for (const metadata of foreign) {
      expect(isReadable(metadata)).toBe(false);
      expect(plain(decodeProgress(7, metadata))).toEqual(plain(beginning(7)));
    }
    expect(foreign.filter(isOurs)).toEqual(foreign.slice(3));
  });

  it("is never misread into an offset that it does not have", () => {
    fc.assert(
      fc.property(
        fc.nat(),
        fc.oneof(
          fc.string(),
          fc.string().map((text) => `anybroker:1:${text}`),
        ),
        (offset, text) => {
          const { offset: read, reach, deaths } = decodeProgress(offset, text);
          expect(read).toBe(offset);
          expect(reach).toBeGreaterThanOrEqual(offset);
          for (const death of deaths) expect(death).toBeGreaterThanOrEqual(offset);
        },
      ),
    );
    expect(plain(decodeProgress(5, "anybroker:1:zzzzzzzzzzz::"))).toEqual(plain(beginning(5)));
  });

  it("keeps the deaths that reach farthest", () => {
    let deaths: readonly number[] = [];
    for (let reach = 1; reach <= 70; reach++) deaths = withDeath(deaths, reach % 2 === 0 ? reach : 100 - reach);
    expect(deaths).toHaveLength(64);
    expect([...deaths]).toEqual([...deaths].sort((one, other) => one - other));
    expect(deaths.at(-1)).toBe(99);
  });
});
