import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { inspect } from "node:util";
import type { Runner } from "../conformance.ts";
import { type CaseReport, formatReports, skipUnlessRun } from "../results.ts";
import type { RunCase } from "../run-case.ts";
import { chooseSeed, seeded } from "../seed.ts";
import { until } from "../until.ts";
import type { Outage } from "./outage.ts";

/** One guarantee of a store, tested on one store. */
export interface StoreCase<Harness> {
  /** As in the list of cases: `O3`, `I7`. */
  readonly number: string;
  readonly title: string;
  /** Throws if the guarantee is broken. */
  run(context: StoreContext<Harness>): Promise<void>;
}

/** The members of every harness. */
export interface AnyHarness {
  /** The store's name in the table of results. */
  readonly name: string;
  /** The longest wait for one condition, in milliseconds. Default 60,000. */
  readonly patienceMs?: number;
  /** Makes the database unavailable for a while. */
  readonly outage?: Outage;
  /** Why the database cannot be unavailable while its users run. */
  readonly withoutOutage?: string;
}

const PATIENCE_MS = 60_000;
const CASE_TIMEOUT_MS = 300_000;

/** A lease that no case outlasts. */
export const LONG_MS = 600_000;

/** The tools of a case. Everything that it opens is closed at its end. */
export class StoreContext<Harness> {
  readonly harness: Harness;
  readonly patienceMs: number;
  /** Numbers from 0 up to 1, the same for the same seed. */
  readonly random: () => number;
  /** Why the case was not run. */
  notRun: { readonly note: string; readonly result: "not-run" | "not-applicable" } | undefined = undefined;
  /** The prefix of every name of the case: letters, digits and `-`. */
  readonly prefix = `n${randomBytes(6).toString("hex")}-`;
  readonly #cleanups: (() => Promise<unknown>)[] = [];
  #names = 0;

  constructor(harness: Harness & AnyHarness, seed: number) {
    this.harness = harness;
    this.patienceMs = harness.patienceMs ?? PATIENCE_MS;
    this.random = seeded(seed);
  }

  /** A unique name: letters, digits and `-`. */
  name(): string {
    return `${this.prefix}${this.#names++}`;
  }

  /** Waits for a condition. */
  until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
    return until(condition, { what, timeoutMs: this.patienceMs });
  }

  /** Settles as the promise, or rejects after `patienceMs`. */
  async inTime<T>(what: string, promise: Promise<T>): Promise<T> {
    const { promise: late, reject } = Promise.withResolvers<never>();
    const tooLate = (): void => reject(new Error(`${what} did not come to an end within ${this.patienceMs} ms`));
    const timer = setTimeout(tooLate, this.patienceMs);
    try {
      return await Promise.race([promise, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Registers a cleanup for the end. The last registered runs first. */
  cleanUp(action: () => Promise<unknown>): void {
    this.#cleanups.push(action);
  }

  /** Reports the case as not run, or as not applicable if the harness names a reason. */
  cannot(note: string, reason: string | undefined): void {
    this.notRun = { note: reason ?? note, result: reason === undefined ? "not-run" : "not-applicable" };
  }

  /** Runs all cleanups. Resolves with their failures. */
  async close(): Promise<readonly unknown[]> {
    const failures: unknown[] = [];
    for (const action of this.#cleanups.splice(0).reverse()) {
      try {
        // The cleanup of a failed case may never end.
        await this.inTime("cleaning up", action());
      } catch (failure) {
        failures.push(failure);
      }
    }
    return failures;
  }
}

/** Runs one case on one store, then its cleanups. Never rejects. */
export async function runCase<Harness extends AnyHarness>(
  harness: Harness,
  one: StoreCase<Harness>,
  seed: number,
): Promise<RunCase> {
  const context = new StoreContext<Harness>(harness, seed);
  const failures: unknown[] = [];
  try {
    await one.run(context);
  } catch (failure) {
    failures.push(failure);
  }
  failures.push(...(await context.close()));
  const { notRun } = context;
  const report: CaseReport = {
    adapter: harness.name,
    case: one.number,
    title: one.title,
    result: failures.length > 0 ? "failed" : (notRun?.result ?? "passed"),
    ...(notRun === undefined ? {} : { note: notRun.note }),
  };
  if (failures.length === 0) return { report, error: undefined };
  const [failure] = failures;
  const text = failure instanceof Error ? failure.message : inspect(failure);
  const error = new Error(
    `case ${one.number} (${one.title}) failed on ${harness.name}: ${text}\nrepeat with CONFORMANCE_SEED=${seed}`,
    { cause: failure },
  );
  return { report, error };
}

/** Registers cases with a runner, and prints the table of results at the end. */
export function registerCases<Harness extends AnyHarness>(
  title: string,
  harness: Harness,
  cases: readonly StoreCase<Harness>[],
  runner: Runner,
): void {
  const seed = chooseSeed(process.env.CONFORMANCE_SEED);
  const reports: CaseReport[] = [];
  runner.describe(title, () => {
    for (const one of cases) {
      const body = async (test: { skip?(note?: string): unknown }): Promise<void> => {
        const { report, error } = await runCase(harness, one, seed);
        reports.push(report);
        if (error !== undefined) throw error;
        skipUnlessRun(report, test);
      };
      runner.test(`${one.number} ${one.title}`, body, CASE_TIMEOUT_MS);
    }
    runner.afterAll(() => {
      console.log(`\n${title}, seed ${seed}\n${formatReports(reports)}\n`);
    });
  });
}

/** The harness's outage. If undefined, the case is reported as not run. */
export function outageOf(context: StoreContext<AnyHarness>): Outage | undefined {
  const { outage, withoutOutage } = context.harness;
  if (outage === undefined) context.cannot("the harness has no `outage`", withoutOutage);
  else context.cleanUp(() => outage.end());
  return outage;
}

/** Fails if the value is undefined. */
export function present<T>(what: string, value: T | undefined): T {
  if (value === undefined) assert.fail(`${what} is missing`);
  return value;
}
