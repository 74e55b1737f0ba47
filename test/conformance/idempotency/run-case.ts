import { inspect } from "node:util";
import type { CaseReport } from "../case.ts";
import type { RunCase } from "../run-case.ts";
import type { StoreCase } from "./case.ts";
import { StoreContext } from "./context.ts";
import type { StoreHarness } from "./harness.ts";

/** Runs one case on one store and closes what it opened. Never rejects. */
export async function runStoreCase(harness: StoreHarness, one: StoreCase, seed: number): Promise<RunCase> {
  const context = new StoreContext(harness, one.number, seed);
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
    result: failures.length > 0 ? "failed" : notRun === undefined ? "passed" : "not-run",
    ...(notRun === undefined ? {} : { note: notRun.note }),
  };
  const error = failures.length === 0 ? undefined : explain(harness, one, seed, failures[0]);
  return { report, error, known: notRun?.known === true };
}

function explain(harness: StoreHarness, one: StoreCase, seed: number, failure: unknown): Error {
  const text = failure instanceof Error ? failure.message : inspect(failure);
  return new Error(
    `case ${one.number} (${one.title}) failed on ${harness.name}: ${text}\nrepeat with CONFORMANCE_SEED=${seed}`,
    { cause: failure },
  );
}
