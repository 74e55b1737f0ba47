import { describe, expect, it } from "vitest";
import { describeReport, type Report, runSimulation } from "./simulation/run-simulation.ts";

/** `SIMULATION_SEEDS=10000` tries so many, from `SIMULATION_FROM` on; `SIMULATION_SEED=1234` repeats one. */
const { SIMULATION_SEED, SIMULATION_SEEDS = "100", SIMULATION_FROM = "1" } = process.env;
const ONE = SIMULATION_SEED === undefined ? undefined : Number(SIMULATION_SEED);
const FROM = ONE ?? Number(SIMULATION_FROM);
const TO = ONE ?? FROM + Number(SIMULATION_SEEDS) - 1;
const PER_TEST = 50;
const FAILURES_SHOWN = 3;

async function run(
  from: number,
  to: number,
): Promise<{ readonly failures: readonly Report[]; readonly kills: number }> {
  const failures: Report[] = [];
  let kills = 0;
  for (let seed = from; seed <= to && failures.length < FAILURES_SHOWN; seed++) {
    const report = await runSimulation(seed);
    kills += report.kills;
    if (report.violations.length > 0) failures.push(report);
  }
  return { failures, kills };
}

describe("consumers of a simulated cluster, among dying processes and moving partitions", () => {
  for (let from = FROM; from <= TO; from += PER_TEST) {
    const to = Math.min(from + PER_TEST - 1, TO);
    it(`seeds ${from} to ${to} lose nothing and break no promise`, { timeout: 600_000 }, async () => {
      const { failures, kills } = await run(from, to);
      expect(failures.length, `\n${failures.map(describeReport).join("\n\n")}\n`).toBe(0);
      if (ONE === undefined) expect(kills).toBeGreaterThan(to - from);
    });
  }
});
