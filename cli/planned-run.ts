import { stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { makeOwnFolder } from "../core/private-files.ts";
import { formatDuration } from "../patterns/dead-letters/filter.ts";
import {
  type Failure,
  type FileJournal,
  fileJournal,
  type Journal,
  type MissingReason,
  type Plan,
  type PlannedRun,
  type Progress,
  type RunResult,
} from "../patterns/dead-letters/index.ts";
import type { Context } from "./context.ts";
import { unseenText } from "./dead-letters-of.ts";
import { CommandError, type ExitName, exitOf } from "./exit-codes.ts";
import { writeJson } from "./files.ts";
import type { Frame } from "./frame.ts";
import { toldProblem } from "./standing.ts";
import { progressBar } from "./terminal.ts";
import type { Ended } from "./verb.ts";

/** Where the plans and journals of runs are kept, below the current folder. */
export const RUNS_FOLDER = "anybroker-runs";

const PLAN_ENDING = ".json";
const JOURNAL_ENDING = ".journal.jsonl";

/** The files of one run. */
interface RunFiles {
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
async function planFileOf(
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

/** How a plan is carried out. */
interface Carrying {
  readonly planned: PlannedRun;
  /** Whose dead letters, as it was written. */
  readonly destination: string;
  readonly label: string;
  readonly dryRun: boolean;
  readonly yes: boolean;
  /** What is asked before. */
  readonly question: string;
  /** Where the plan is kept, and its journal beside it; else in the folder of runs. */
  readonly planFile: string | undefined;
  /** The command that takes it up again, without the file. */
  readonly resume: string;
  /** What else is shown of the plan. */
  readonly more?: string;
}

/** What `dlq replay` and `dlq discard` both tell. */
export const RUN_JSON = {
  plan: "`run`, `filter`, `plannedAt`, `count`, `destinations`, `refused` (`why`, `count`, `example`), `beyondLimit`, `to`, `by`, `rate`, `ramp`, `edit`, `groups` (`group`, `errorClass`, `error`, `count`), `held`, `complete`, `elsewhere`",
  dryRun: "",
  planFile: "a file for `--resume` and `dlq report`",
  journal: "",
  goOn: "the command that continues with what is left",
  result:
    "[as here](dead-letters.md#sending-back): `done`, `failed`, `left`, `missing`, `missingWhy`, `missed` (the first 100), `cameBack`, `unproven`, `stopped`, `error`, `edited`, `failures` (the first 100)",
} as const;

/** How both may end. */
export const RUN_EXITS = {
  partly: "also: some came back dead",
  "try-again": "another run holds them",
  "no-input": "",
  "cannot-create": "",
  data: "",
} as const;

/** Shows the plan, asks, keeps the plan in a file, runs it, and tells what became of it. */
export async function carryOut(frame: Frame, carrying: Carrying): Promise<Ended> {
  const { planned, dryRun, label, question, yes } = carrying;
  const { terminal, interruption } = frame;
  const { plan } = planned;
  const { entries: _, ...told } = plan;
  const json = { broker: label, destination: plan.source, plan: told, dryRun, journal: null, goOn: null };
  if (dryRun || plan.count === 0) {
    const { planFile = null } = carrying;
    if (planFile !== null) await writeJson(planFile, frame.context, plan);
    const end = dryRun ? "nothing was done: --dry-run" : "there is nothing to do";
    return { json: { ...json, planFile, result: null }, text: `${planText(carrying)}\n${end}` };
  }
  if (!terminal.json) terminal.note(planText(carrying));
  await terminal.agreed(question, yes, interruption.signal);
  const planFile = await planFileOf(plan, carrying.planFile, frame.context);
  const files = runFiles(planFile);
  await writeJson(planFile, frame.context, plan);
  const journal = openJournal(files, frame.context);
  let result: RunResult;
  try {
    result = await running(frame, carrying, journal);
  } finally {
    await journal.close();
  }
  const isOver = result.stopped === undefined && result.failed === 0;
  const goOn = isOver ? null : `${carrying.resume} --resume ${planFile}`;
  return {
    json: { ...json, planFile, journal: files.journal, goOn, result: toldResult(result) },
    text: [
      resultText(plan, result),
      ...(result.cameBack > 0 ? [`see why: ${lookAgain(carrying)}`] : []),
      ...(goOn === null ? [] : [`go on with: ${goOn}${paceText(plan, "\nat its own pace: ")}`]),
      `each message: anybroker dlq report ${planFile}`,
    ].join("\n"),
    errors: [...(result.error === undefined ? [] : [result.error]), ...result.failures.map(({ error }) => error)],
    exit: exitFor(result),
  };
}

/** What came back, by the run that stands in a header of it. */
function lookAgain({ planned: { plan }, destination }: Carrying): string {
  return `anybroker dlq groups ${destination} 'header.anybroker-replay-run = ${plan.run}'`;
}

async function running(frame: Frame, { planned }: Carrying, journal: Journal): Promise<RunResult> {
  const { plan } = planned;
  const { terminal } = frame;
  const bar = progressBar(terminal, plan.action, plan.count);
  // Where nothing is drawn it would be silent for minutes.
  let told: Progress["waitsFor"] = null;
  const isSilent = terminal.progressStream === undefined && !terminal.json;
  try {
    return await planned.run({
      journal,
      signal: frame.interruption.signal,
      onProgress({ done, failed, left, cameBack, step, waitsFor }) {
        if (isSilent && waitsFor !== null && waitsFor !== told) terminal.note(`sent ${done}: ${WAITING[waitsFor]}`);
        told = waitsFor;
        const details = [
          failed > 0 ? `${failed} failed` : "",
          cameBack > 0 ? `${cameBack} came back` : "",
          plan.ramp === null ? "" : `step ${step}`,
          waitsFor === null ? "" : WAITING[waitsFor],
        ];
        bar.update(done + failed + left, details.filter((detail) => detail !== "").join(", "));
      },
    });
  } finally {
    bar.stop();
  }
}

const WAITING: Readonly<Record<NonNullable<Progress["waitsFor"]>, string>> = Object.freeze({
  backlog: "waiting until it is handled",
  returns: "watching whether it comes back",
});

/** How fast, and how far without looking; empty for all at once. */
function paceText({ rate, ramp }: Pick<Plan, "rate" | "ramp">, before: string): string {
  const parts = [
    ...(rate === null ? [] : [`${rate} a second at most`]),
    ...(ramp === null
      ? []
      : [
          `${ramp.first} first, then ${ramp.factor} times as many at each step`,
          `each watched for ${formatDuration(ramp.observeMs)} once it is handled`,
          `no more when over ${ramp.tolerate} came back`,
        ]),
  ];
  return parts.length === 0 ? "" : `${before}${parts.join(", ")}`;
}

function planText({ planned: { plan }, more = "" }: Carrying): string {
  const where = plan.destinations.map(
    ({ destination, count }) => `${count} ${plan.action === "replay" ? "to" : "from"} ${destination}`,
  );
  return [
    `${plan.action} ${plan.count} dead letters of ${plan.source}${where.length === 0 ? "" : `: ${where.join(", ")}`}`,
    ...plan.refused.map(({ why, count, example }) => `left alone: ${count}, ${why} (such as ${example})`),
    ...(plan.beyondLimit > 0 ? [`${plan.beyondLimit} more are beyond the limit`] : []),
    ...(plan.rate === null && plan.ramp === null ? [] : [paceText(plan, "pace: ")]),
    ...(plan.edit === null ? [] : [`each edited by ${plan.edit === "function" ? "the script" : "the patch"}`]),
    ...(more === "" ? [] : [more]),
    ...unseenText(plan),
  ].join("\n");
}

function resultText({ action }: Plan, result: RunResult): string {
  const { done, failed, left, missing, missingWhy, missed, cameBack, unproven, stopped, error, failures } = result;
  const counts = [
    `${action === "replay" ? "sent back" : "discarded"} ${done}`,
    ...(failed > 0 ? [`${failed} failed and stand as before`] : []),
    ...(left > 0 ? [`${left} left as they were`] : []),
    ...(missing > 0 ? [`${missing} were not there any more`] : []),
    ...(cameBack > 0 ? [`${cameBack} came back dead`] : []),
  ];
  const why = Object.entries(missingWhy)
    .filter(([, count]) => count > 0)
    .map(([name, count]) => {
      const such = missed.find((one) => one.why === name);
      const now = such?.now === null || such === undefined ? "" : `, now ${such.now}`;
      return `not there: ${count} ${GONE[name as MissingReason]}${such === undefined ? "" : ` (such as ${such.id}${now})`}`;
    });
  const blind = `after ${unproven} ${unproven === 1 ? "step" : "steps"} nobody could tell whether it was handled yet, since the broker does not tell what consumers hold: the watch has to be longer than handling and retries`;
  return [
    counts.join(", "),
    ...why,
    ...(unproven > 0 ? [blind] : []),
    ...failures.slice(0, 10).map((failure) => `failed: ${failure.id}: ${failure.error.message}`),
    ...(stopped === undefined ? [] : [`stopped: ${WHY[stopped]}${error === undefined ? "" : `: ${error.message}`}`]),
  ].join("\n");
}

const GONE: Readonly<Record<MissingReason, string>> = Object.freeze({
  handled: "done by an earlier part of this run",
  "dead-again": "sent back meanwhile, and dead again under a new id",
  removed: "removed or sent back by somebody else",
  unknown: "gone, or in the hands of somebody else, which this broker does not tell",
});

const WHY: Readonly<Record<NonNullable<RunResult["stopped"]>, string>> = Object.freeze({
  cancelled: "it was interrupted, and what was under way is finished",
  "failed-again": "too many came back to the dead letters",
  unhandled:
    "nobody handled what was sent in time, so that nobody knows whether it would come back; see that consumers run",
  held: "somebody else holds what is left",
  error: "something that would meet every message",
});

function toldResult(result: RunResult): Readonly<Record<string, unknown>> {
  const { error, failures, stopped = null, run: _, action: __, selected: ___, ...counts } = result;
  return {
    ...counts,
    stopped,
    error: error === undefined ? null : toldProblem(error),
    failures: failures.map(({ id, messageId, error: problem }: Failure) => ({
      id,
      messageId,
      ...toldProblem(problem),
    })),
  };
}

function exitFor({ done, failures, cameBack, stopped, error }: RunResult): ExitName {
  const [failure] = failures;
  if (stopped === undefined && failure === undefined && cameBack === 0) return "done";
  if (done > 0) return "partly";
  if (stopped === "cancelled") return "interrupted";
  if (stopped === "held") return "try-again";
  return error === undefined && failure === undefined ? "partly" : exitOf(error ?? failure?.error);
}
