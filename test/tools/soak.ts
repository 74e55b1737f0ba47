// `npm run test:soak -- [ROUNDS]`: finds bugs by repetition. Every test, each round with new seeds, and many more of them in the
// simulations. A failure ends it, and prints the seed that repeats it.
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));
const rounds = Number(process.argv[2] ?? 10);
if (!Number.isInteger(rounds) || rounds < 1) throw new Error(`soak ${process.argv[2]}: use a number of rounds`);

for (let round = 1; round <= rounds; round++) {
  console.log(`\n=== round ${round} of ${rounds}`);
  const from = String(1 + (round - 1) * 100_000);
  const seeds = {
    SIMULATION_FROM: from,
    SIMULATION_SEEDS: "5000",
    GROUP_FROM: from,
    GROUP_SEEDS: "1000",
    MIGRATION_RUNS: "300",
    FUZZ_RUNS: "5000",
  };
  const { status } = spawnSync(process.execPath, [fileURLToPath(new URL("run.ts", import.meta.url))], {
    cwd: root,
    env: { ...process.env, ...seeds },
    stdio: "inherit",
  });
  if (status !== 0) {
    process.exitCode = 1;
    break;
  }
}
