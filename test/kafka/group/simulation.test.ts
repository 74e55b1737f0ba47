import { describe, expect, test } from "vitest";
import { type Report, simulate } from "./simulate.ts";

/** `GROUP_SEEDS=10000` tries so many, from `GROUP_FROM` on; `GROUP_SEED=1234` repeats one, and prints its log. */
const { GROUP_SEED, GROUP_SEEDS = "100", GROUP_FROM = "1" } = process.env;
const FROM = Number(GROUP_SEED ?? GROUP_FROM);
const TO = GROUP_SEED === undefined ? FROM + Number(GROUP_SEEDS) - 1 : FROM;
const PER_TEST = 50;

function describeReport({ seed, violations }: Report): string {
  return [`seed ${seed} (repeat it with GROUP_SEED=${seed}):`, ...violations.slice(0, 10)].join("\n  - ");
}

describe("simulated groups", () => {
  for (let from = FROM; from <= TO; from += PER_TEST) {
    const to = Math.min(from + PER_TEST - 1, TO);
    test(`seeds ${from} to ${to}: a partition has one owner, and gets one`, { timeout: 600_000 }, async () => {
      const failures: Report[] = [];
      for (let seed = from; seed <= to && failures.length < 3; seed++) {
        const report = await simulate(seed);
        if (GROUP_SEED !== undefined) console.log(report.log.join("\n"));
        if (report.violations.length > 0) failures.push(report);
      }
      expect(failures.length, `\n${failures.map(describeReport).join("\n\n")}\n`).toBe(0);
    });
  }

  test("a seed repeats exactly", async () => {
    for (const seed of [3, 42, 295]) expect((await simulate(seed)).log).toEqual((await simulate(seed)).log);
    expect((await simulate(3)).log).not.toEqual((await simulate(4)).log);
  });
});
