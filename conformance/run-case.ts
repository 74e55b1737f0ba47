import { inspect } from "node:util";
import type { ConformanceCase } from "./case.ts";
import { CaseContext } from "./context.ts";
import type { Harness } from "./harness.ts";
import { failureOf } from "./refusals.ts";
import type { CaseReport } from "./results.ts";

/** A report, and the error of a failed case. */
export interface RunCase {
  readonly report: CaseReport;
  readonly error: Error | undefined;
}

/** Runs one case on one adapter, then its cleanups. Never rejects. */
export async function runCase(harness: Harness, one: ConformanceCase, seed: number): Promise<RunCase> {
  const context = new CaseContext(harness, one.number, seed);
  const failures: unknown[] = [];
  try {
    if (one.needsTopics === true && harness.withoutTopics !== undefined)
      await withoutTopics(context, harness.withoutTopics);
    else await one.run(context);
  } catch (failure) {
    failures.push(failure);
  }
  failures.push(...(await context.close()));
  const { result, note } = context.outcome;
  const emulated = harness.emulator === undefined ? undefined : `on the emulator ${harness.emulator}`;
  const notes = [note, emulated].filter((text) => text !== undefined);
  const [failure] = failures;
  return {
    report: {
      adapter: harness.name,
      case: one.number,
      title: one.title,
      result: failures.length > 0 ? "failed" : result,
      ...(notes.length === 0 ? {} : { note: notes.join("; ") }),
    },
    error: failure === undefined ? undefined : explain(harness, one, seed, failure),
  };
}

/** Ends the case as not applicable, after checking that topics are refused. */
async function withoutTopics(context: CaseContext, reason: string): Promise<void> {
  const broker = context.broker({ destinations: [context.topic("any")] });
  const failure = await failureOf(broker.start());
  if (failure?.code !== "start-failed")
    throw new Error("a topic was declared, but the harness says that there are none");
  context.notApplicable(`topics: ${reason} (declaring one fails)`);
}

function explain(harness: Harness, one: ConformanceCase, seed: number, failure: unknown): Error {
  const text = failure instanceof Error ? failure.message : inspect(failure);
  const problems = (failure as { problems?: readonly Error[] } | null)?.problems ?? [];
  const found = problems.map((problem) => `\n- ${problem.message}`).join("");
  return new Error(
    `case ${one.number} (${one.title}) failed on ${harness.name}: ${text}${found}\nrepeat with CONFORMANCE_SEED=${seed}`,
    { cause: failure },
  );
}
