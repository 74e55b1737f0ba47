import { createHash } from "node:crypto";
import { judge } from "./judge.ts";
import type { Mutation } from "./simulated-broker.ts";
import { type Variant, variantOf } from "./variant.ts";
import { World } from "./world.ts";

/** How a simulated run ended. */
export interface Report {
  readonly seed: number;
  readonly variant: Variant;
  readonly violations: readonly string[];
  /** Everything that happened, in order, with its time. */
  readonly log: readonly string[];
  readonly hash: string;
}

/** Runs one seed to its end. The same seed, and the same engine, give the same log. */
export async function runSimulation(seed: number, mutation?: Mutation): Promise<Report> {
  const variant = variantOf(seed);
  const world = new World(seed, variant, mutation);
  const { ledger } = world;
  if (!(await world.live())) ledger.violated("it did not come to rest within an hour");
  if (!(await world.end())) ledger.violated("the stops did not come to an end within a minute");
  judge(ledger, world.broker, variant);
  const hash = createHash("sha256").update(ledger.lines.join("\n")).digest("hex");
  return { seed, variant, violations: ledger.violations, log: ledger.lines, hash };
}

/** What to print of a run that went wrong. */
export function describeReport({ seed, variant, violations, hash }: Report): string {
  const shown = violations.slice(0, 15).map((violation) => `  - ${violation}`);
  return [
    `seed ${seed} (repeat it with SIMULATION_SEED=${seed}, its log with SIMULATION_LOG=1), log ${hash.slice(0, 12)}`,
    `variant ${JSON.stringify(variant)}`,
    `${violations.length} violations:`,
    ...shown,
  ].join("\n");
}
