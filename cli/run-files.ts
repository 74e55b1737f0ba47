import { stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { makeOwnFolder } from "../core/private-files.ts";
import { type FileJournal, fileJournal, type Plan } from "../patterns/dead-letters/index.ts";
import type { Context } from "./context.ts";
import { CommandError } from "./exit-codes.ts";

/** Where the plans and journals of runs are kept, below the current folder. */
export const RUNS_FOLDER = "anybroker-runs";

const PLAN_ENDING = ".json";
const JOURNAL_ENDING = ".journal.jsonl";

/** The files of one run. */
export interface RunFiles {
  readonly plan: string;
  readonly journal: string;
}

/** Beside each other, so that one is found by the other. */
export function runFiles(plan: string): RunFiles {
  const base = plan.endsWith(PLAN_ENDING) ? plan.slice(0, -PLAN_ENDING.length) : plan;
  return { plan, journal: `${base}${JOURNAL_ENDING}` };
}

/** Whether a file in the folder of runs is a plan. */
export function isPlanFile(name: string): boolean {
  return name.endsWith(PLAN_ENDING);
}

/** The file of a plan in the folder of runs, which is made; or the one that was named. Rejects with a `CommandError`. */
export async function planFileOf(
  { action, run }: Pick<Plan, "action" | "run">,
  named: string | undefined,
  { cwd }: Pick<Context, "cwd">,
): Promise<string> {
  if (named !== undefined) return named;
  try {
    await makeOwnFolder(resolve(cwd, RUNS_FOLDER));
  } catch (cause) {
    const text = `the folder ${RUNS_FOLDER} for plans and journals cannot be made here; name a file with --plan-file`;
    throw new CommandError("cannot-create", text, { cause });
  }
  return join(RUNS_FOLDER, `${action}-${run}${PLAN_ENDING}`);
}

/** The journal of a run, to be written and read. */
export function openJournal({ journal }: RunFiles, { cwd }: Pick<Context, "cwd">): FileJournal {
  return fileJournal(resolve(cwd, journal));
}

/** Whether there is such a file. */
export async function isThere(file: string, { cwd }: Pick<Context, "cwd">): Promise<boolean> {
  return stat(resolve(cwd, file)).then(
    () => true,
    () => false,
  );
}
