import { describe, expect, it } from "vitest";
import { runSimulation } from "./run-simulation.ts";
import type { Mutation } from "./simulated-broker.ts";

const SEEDS = 40;

/** What a broker does wrong, and what the judge must say of it. */
const MUTATIONS: readonly (readonly [Mutation, RegExp])[] = [
  ["loses-one", /send \d+ is lost|was confirmed and never|vanished/],
  ["delivers-after-ack", /was started after its effect|was handled|stands \d+ times|was started \d+ times/],
  ["delivers-early", /was started [\d.]+ ms early/],
  ["swaps-order", /of its key was done/],
  ["stores-refused", /was refused and is stored/],
];

describe("the judge of the simulation", () => {
  for (const [mutation, complaint] of MUTATIONS) {
    it(`notices a broker that ${mutation.replaceAll("-", " ")}`, async () => {
      const complaints: string[] = [];
      for (let seed = 1; seed <= SEEDS; seed++) complaints.push(...(await runSimulation(seed, mutation)).violations);
      expect(complaints.filter((text) => complaint.test(text)).length).toBeGreaterThan(0);
    });
  }
});
