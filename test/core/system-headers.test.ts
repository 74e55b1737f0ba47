import { describe, expect, test } from "vitest";
import { numberHeader, timeHeader } from "../../core/system-headers.ts";

const read = (text: string) => [numberHeader({ n: text }, "n", 7), timeHeader({ n: text }, "n")];

describe("a whole number in a header", () => {
  test("is a time of any sign, and a count from 0 up", () => {
    expect(read("12")).toEqual([12, 12]);
    expect(read("0")).toEqual([0, 0]);
    expect(read("-12")).toEqual([7, -12]);
    expect(read("8640000000000000")).toEqual([8_640_000_000_000_000, 8_640_000_000_000_000]);
  });

  test.for(["", " ", "1e3", "0x10", "1.0", "+1", "NaN", "Infinity", "-8640000000000001", "١"])(
    "is none where another sender wrote %j",
    (text) => {
      expect(read(text)).toEqual([7, undefined]);
    },
  );

  test.for(["8640000000000001", "9007199254740991", "99999999999999999999", "9".repeat(400)])(
    "is no time where it is too large, as %s, and the largest count",
    (text) => {
      expect(read(text)).toEqual([8_640_000_000_000_000, undefined]);
    },
  );

  test("is not taken of what no header has", () => {
    expect(timeHeader({}, "n")).toBeUndefined();
    expect(numberHeader({}, "n", 7)).toBe(7);
  });
});
