import fc from "fast-check";
import { expect, test } from "vitest";
import { KeptOffsets } from "../../../adapters/kafka/consuming/progress.ts";

test("what was committed is kept until a review finds nothing", () => {
  const kept = new KeptOffsets(7);
  expect(kept.lowest).toBe(7);
  kept.beginReview();
  expect(kept.endReview(9)).toBe(true);
  expect(kept.lowest).toBe(9);
  kept.beginReview();
  expect(kept.endReview(9)).toBe(false);
  kept.beginReview();
  kept.failReview();
  expect(kept.endReview(undefined)).toBe(false);
  expect(kept.lowest).toBe(9);
  kept.beginReview();
  expect(kept.endReview(undefined)).toBe(true);
  expect(kept.lowest).toBeUndefined();
});

test("a reference counts from before it is written, also for a review that cannot have seen it", () => {
  const kept = new KeptOffsets(undefined);
  const first = kept.keep(5);
  kept.beginReview();
  first();
  kept.keep(8)();
  kept.endReview(undefined);
  expect(kept.lowest).toBe(5);
  kept.beginReview();
  kept.endReview(8);
  expect(kept.lowest).toBe(8);
});

type Step =
  | { readonly do: "keep"; readonly offset: number }
  | { readonly do: "write" | "fail" | "remove"; readonly which: number }
  | { readonly do: "begin" | "read" | "end" | "break" };

const step: fc.Arbitrary<Step> = fc.oneof(
  fc.nat(20).map((offset) => ({ do: "keep" as const, offset })),
  fc.record({ do: fc.constantFrom("write" as const, "fail" as const, "remove" as const), which: fc.nat() }),
  fc.record({ do: fc.constantFrom("begin" as const, "read" as const, "end" as const, "break" as const) }),
);

test("whatever happens at once, no record is let go that a dead letter refers to, or is about to", () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const kept = new KeptOffsets(undefined);
      const underWay: { readonly offset: number; readonly end: () => void }[] = [];
      const standing: number[] = [];
      let review: { found: number | undefined; isRead: boolean } | undefined;
      for (const given of steps) {
        if (given.do === "keep") underWay.push({ offset: given.offset, end: kept.keep(given.offset) });
        else if (given.do === "write" || given.do === "fail") {
          const [ended] = underWay.splice(given.which % Math.max(underWay.length, 1), 1);
          if (ended !== undefined && given.do === "write") standing.push(ended.offset);
          ended?.end();
        } else if (given.do === "remove") standing.splice(given.which % Math.max(standing.length, 1), 1);
        else if (given.do === "begin" && review === undefined) {
          kept.beginReview();
          review = { found: undefined, isRead: false };
        } else if (given.do === "read" && review?.isRead === false) {
          review = { found: standing.length === 0 ? undefined : Math.min(...standing), isRead: true };
        } else if (given.do === "end" && review?.isRead === true) {
          kept.endReview(review.found);
          review = undefined;
        } else if (given.do === "break" && review !== undefined) {
          kept.failReview();
          review = undefined;
        }
        for (const offset of [...standing, ...underWay.map((one) => one.offset)]) {
          expect(kept.lowest).toBeLessThanOrEqual(offset);
        }
      }
      for (const { end } of underWay) end();
      // Once nothing refers to anything, two reviews let everything go: the first may not have seen the last of them.
      for (let count = 0; count < 2; count++) {
        kept.beginReview();
        kept.endReview(undefined);
      }
      expect(kept.lowest).toBeUndefined();
    }),
    { numRuns: 2_000 },
  );
});
