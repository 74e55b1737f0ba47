import { randomBytes } from "node:crypto";
import * as zlib from "node:zlib";
import { describe, expect, test } from "vitest";
import { inflate } from "../../../adapters/kafka/records/contract.ts";

const MIB = 1024 * 1024;
/** A skippable frame of four bytes. */
const SKIPPABLE = Buffer.from([0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4]);
const { constants, zstdCompressSync: squeeze } = zlib;

describe.skipIf(process.versions.zstd === undefined)("zstd data", () => {
  const samples = [Buffer.alloc(0), Buffer.from("x"), Buffer.alloc(3 * MIB, "ab"), randomBytes(300_000)];
  const options: readonly zlib.ZstdOptions[] = [
    {},
    { params: { [constants.ZSTD_c_checksumFlag]: 1 } },
    { params: { [constants.ZSTD_c_contentSizeFlag]: 0 } },
    { params: { [constants.ZSTD_c_windowLog]: 10, [constants.ZSTD_c_compressionLevel]: 19 } },
  ];

  test("of several frames is read to its end, and what is to be skipped is skipped", async () => {
    const whole = Buffer.concat(samples);
    for (const option of options) {
      const frames = samples.map((sample) => squeeze(sample, option));
      expect((await inflate("zstd", Buffer.concat(frames), 8 * MIB)).equals(whole)).toBe(true);
      const between = Buffer.concat(frames.flatMap((frame) => [SKIPPABLE, frame, SKIPPABLE]));
      expect((await inflate("zstd", between, 8 * MIB)).equals(whole)).toBe(true);
    }
  });

  test("of several frames has one limit", async () => {
    const frames = Buffer.concat(Array.from({ length: 4 }, () => squeeze(Buffer.alloc(MIB))));
    expect(await inflate("zstd", frames, 4 * MIB)).toHaveLength(4 * MIB);
    for (const most of [4 * MIB - 1, 3 * MIB, MIB]) {
      await expect(inflate("zstd", frames, most)).rejects.toMatchObject({ code: "too-large" });
    }
  });

  test("that is cut off, followed by something else, or nothing but skippable frames is damaged", async () => {
    const frame = squeeze(Buffer.from("some text"));
    const wrong = [
      Buffer.alloc(0),
      SKIPPABLE,
      SKIPPABLE.subarray(0, 9),
      Buffer.concat([frame, Buffer.from("garbage")]),
    ];
    for (let length = 1; length < frame.length; length++) wrong.push(Buffer.concat([frame, frame.subarray(0, length)]));
    for (const bytes of wrong) await expect(inflate("zstd", bytes, MIB)).rejects.toMatchObject({ code: "invalid" });
    const many = Buffer.concat(Array.from({ length: 10_001 }, () => frame));
    await expect(inflate("zstd", many, 8 * MIB)).rejects.toMatchObject({ code: "invalid" });
  });
});
