/** One figure of one contender. */
export interface Contender {
  readonly name: string;
  /** Does the work once and returns the figure. */
  run(): Promise<number>;
}

/** A comparison whose second contender is judged by the first. */
export interface Comparison {
  readonly title: string;
  readonly unit: string;
  /** `higher`: the ratio is ours by theirs; `lower`: theirs by ours. A ratio of 1 is as good, above is better. */
  readonly better: "higher" | "lower";
  /** The ratio that is asked for; undefined for a figure to look at. */
  readonly target: number | undefined;
  readonly theirs: Contender;
  readonly ours: Contender;
  readonly rounds: number;
}

export interface Result {
  readonly title: string;
  readonly unit: string;
  readonly theirs: string;
  readonly theirMedian: number;
  readonly ourMedian: number;
  readonly ratio: number;
  readonly target: number | undefined;
}

/**
 * Runs both contenders in turns, the order changing every round, after a round of each that does not count. The ratio
 * is the median of the rounds' ratios: what disturbs a machine for a while disturbs both halves of a round.
 */
export async function compare(comparison: Comparison): Promise<Result> {
  const { theirs, ours, rounds, better, title, unit, target } = comparison;
  await theirs.run();
  await ours.run();
  const pairs: { theirs: number; ours: number }[] = [];
  for (let round = 0; round < rounds; round++) {
    const oursFirst = round % 2 === 1;
    const first = oursFirst ? await ours.run() : await theirs.run();
    const second = oursFirst ? await theirs.run() : await ours.run();
    pairs.push(oursFirst ? { ours: first, theirs: second } : { theirs: first, ours: second });
  }
  const ratios = pairs.map((pair) => (better === "higher" ? pair.ours / pair.theirs : pair.theirs / pair.ours));
  return {
    title,
    unit,
    theirs: theirs.name,
    theirMedian: median(pairs.map((pair) => pair.theirs)),
    ourMedian: median(pairs.map((pair) => pair.ours)),
    ratio: median(ratios),
    target,
  };
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((one, other) => one - other);
  return sorted[Math.min(Math.floor(sorted.length * share), sorted.length - 1)] ?? Number.NaN;
}

/** Calls `call` so many times from so many callers, each waiting for its own; returns calls per second. */
export async function callsPerSecond(callers: number, calls: number, call: () => Promise<unknown>): Promise<number> {
  const share = Math.ceil(calls / callers);
  const caller = async (): Promise<void> => {
    for (let made = 0; made < share; made++) await call();
  };
  const begin = performance.now();
  await Promise.all(Array.from({ length: callers }, caller));
  return (share * callers * 1_000) / (performance.now() - begin);
}

/** Resolves when `tick` was called so many times; returns both. */
export function countdown(count: number): { readonly tick: () => void; readonly done: Promise<void> } {
  let left = count;
  const { promise, resolve } = Promise.withResolvers<void>();
  const tick = (): void => {
    if (--left === 0) resolve();
  };
  return { tick, done: promise };
}

export function report(results: readonly Result[]): string {
  const rows = results.map((result) => [
    result.title,
    `${format(result.ourMedian)} ${result.unit}`,
    `${format(result.theirMedian)} ${result.unit}`,
    result.theirs,
    result.ratio.toFixed(2),
    result.target === undefined ? "" : result.target.toFixed(2),
    result.target === undefined ? "" : result.ratio >= result.target ? "met" : "BELOW",
  ]);
  const table = [["", "anybroker", "beside", "", "ratio", "asked", ""], ...rows];
  const widths = table[0]?.map((_, column) => Math.max(...table.map((row) => row[column]?.length ?? 0))) ?? [];
  return table
    .map((row) =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

function format(value: number): string {
  return value >= 100 ? Math.round(value).toLocaleString("en") : value.toFixed(2);
}
