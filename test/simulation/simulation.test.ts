import { describe, expect, it } from "vitest";
import { describeReport, type Report, runSimulation } from "./run-simulation.ts";

/** `SIMULATION_SEEDS=10000` tries so many, from `SIMULATION_FROM` on; `SIMULATION_SEED=1234` repeats one. */
const { SIMULATION_SEED, SIMULATION_SEEDS = "400", SIMULATION_FROM = "1", SIMULATION_LOG } = process.env;
const ONE = SIMULATION_SEED === undefined ? undefined : Number(SIMULATION_SEED);
const FROM = ONE ?? Number(SIMULATION_FROM);
const TO = ONE ?? FROM + Number(SIMULATION_SEEDS) - 1;
const PER_TEST = 50;
const FAILURES_SHOWN = 3;

async function run(from: number, to: number): Promise<readonly Report[]> {
  const failures: Report[] = [];
  for (let seed = from; seed <= to && failures.length < FAILURES_SHOWN; seed++) {
    const report = await runSimulation(seed);
    if (SIMULATION_LOG !== undefined) console.log(report.log.join("\n"));
    if (report.violations.length > 0) failures.push(report);
  }
  return failures;
}

describe("simulated brokers, networks and dying processes", () => {
  for (let from = FROM; from <= TO; from += PER_TEST) {
    const to = Math.min(from + PER_TEST - 1, TO);
    it(`seeds ${from} to ${to} lose nothing and break no promise`, { timeout: 600_000 }, async () => {
      const failures = await run(from, to);
      expect(failures.length, `\n${failures.map(describeReport).join("\n\n")}\n`).toBe(0);
    });
  }

  it.each([8, 10, 61, 6624, 12309, 21374, 24174, 102687])(
    "seed %i, which once failed, breaks no promise",
    async (seed) => {
      const failures = await run(seed, seed);
      expect(failures.length, `\n${failures.map(describeReport).join("\n\n")}\n`).toBe(0);
    },
  );

  it("repeats a seed exactly", async () => {
    for (const seed of [3, 8, 10, 21, 49]) {
      const [one, other] = [await runSimulation(seed), await runSimulation(seed)];
      expect(other.hash).toBe(one.hash);
      expect(one.log.length).toBeGreaterThan(20);
    }
    expect((await runSimulation(3)).hash).not.toBe((await runSimulation(4)).hash);
  });
});
