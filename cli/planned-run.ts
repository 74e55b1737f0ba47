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
import { problemJson } from "./comparison.ts";
import type { Context } from "./context.ts";
import { unseenText } from "./dead-letters-of.ts";
import { CommandError, type ExitName, exitOf } from "./exit-codes.ts";
import { writeJson } from "./files.ts";
import type { Frame } from "./frame.ts";
import { progressBar } from "./terminal.ts";
import type { Ended } from "./verb.ts";
import { toldText } from "./wording.ts";

/** The folder of plans and journals, in the current folder. */
export const RUNS_FOLDER = "anybroker-runs";

const PLAN_ENDING = ".json";
const JOURNAL_ENDING = ".journal.jsonl";

/** The files of one run. */
interface RunFiles {
  readonly plan: string;
  readonly journal: string;
}

/** The files of a run, side by side. */
export function runFiles(plan: string): RunFiles {
  const base = plan.endsWith(PLAN_ENDING) ? plan.slice(0, -PLAN_ENDING.length) : plan;
  return { plan, journal: `${base}${JOURNAL_ENDING}` };
}

/** Whether a file of the folder is a plan. */
export function isPlanFile(name: string): boolean {
  return name.endsWith(PLAN_ENDING);
}

/** The named plan file, or a new one in the folder of runs, which is created. Rejects with a `CommandError`. */
async function planFileOf(
  { action, run }: Pick<Plan, "action" | "run">,
  named: string | undefined,
  { cwd }: Pick<Context, "cwd">,
): Promise<string> {
  if (named !== undefined) return named;
  try {
    await makeOwnFolder(resolve(cwd, RUNS_FOLDER));
  } catch (cause) {
    const text = `the folder ${RUNS_FOLDER} for plans and journals cannot be created here; name a file with --plan-file`;
    throw new CommandError("cannot-create", text, { cause });
  }
  return join(RUNS_FOLDER, `${action}-${run}${PLAN_ENDING}`);
}

/** Opens the journal of a run. */
export function openJournal({ journal }: RunFiles, { cwd }: Pick<Context, "cwd">): FileJournal {
  return fileJournal(resolve(cwd, journal));
}

/** Whether a file exists. */
export async function fileExists(file: string, { cwd }: Pick<Context, "cwd">): Promise<boolean> {
  return stat(resolve(cwd, file)).then(
    () => true,
    () => false,
  );
}

/** How to run a plan. */
interface Carrying {
  readonly planned: PlannedRun;
  /** The destination as it was written. */
  readonly destination: string;
  readonly label: string;
  readonly dryRun: boolean;
  readonly yes: boolean;
  /** The question before the run. */
  readonly question: string;
  /** The plan file, with the journal beside it. Default: in the folder of runs. */
  readonly planFile: string | undefined;
  /** The command that resumes it, without the file. */
  readonly resume: string;
  /** More text about the plan. */
  readonly more?: string;
}

/** The JSON of `dlq replay` and `dlq discard`. */
export const RUN_JSON = {
  plan: "`run`, `filter`, `plannedAt`, `count`, `destinations`, `refused` (`why`, `count`, `example`), `beyondLimit`, `to`, `by`, `rate`, `ramp`, `edit`, `groups` (`group`, `errorClass`, `error`, `count`), `held`, `complete`, `elsewhere`",
  dryRun: "",
  planFile: "a file for `--resume` and `dlq report`",
  journal: "",
  goOn: "the command that continues with what is left",
  result:
    "[as here](dead-letters.md#sending-back): `done`, `failed`, `left`, `missing`, `missingWhy`, `missed` (the first 100), `cameBack`, `unproven`, `stopped`, `error`, `edited`, `failures` (the first 100)",
} as const;

/** The exits of both. */
export const RUN_EXITS = {
  partly: "also: some came back dead",
  "try-again": "another run holds them",
  "no-input": "",
  "cannot-create": "",
  data: "",
} as const;

/** Shows the plan, asks, stores the plan in a file, runs it, and reports the result. */
export async function carryOut(frame: Frame, carrying: Carrying): Promise<Ended> {
  const { planned, dryRun, label, question, yes } = carrying;
  const { terminal, interruption } = frame;
  const { plan } = planned;
  const { entries: _, ...shownPlan } = plan;
  const json = { broker: label, destination: plan.source, plan: shownPlan, dryRun, journal: null, goOn: null };
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
    json: { ...json, planFile, journal: files.journal, goOn, result: resultJson(result) },
    text: [
      resultText(plan, result),
      ...(result.cameBack > 0 ? [`see why: ${groupsCommand(carrying)}`] : []),
      ...(goOn === null ? [] : [`continue with: ${goOn}${paceText(plan, "\nat the plan's pace: ")}`]),
      `each message: anybroker dlq report ${planFile}`,
    ].join("\n"),
    errors: [...(result.error === undefined ? [] : [result.error]), ...result.failures.map(({ error }) => error)],
    exit: exitFor(result),
  };
}

/** The command that shows what came back, by the run's id in a header. */
function groupsCommand({ planned: { plan }, destination }: Carrying): string {
  return `anybroker dlq groups ${destination} 'header.anybroker-replay-run = ${plan.run}'`;
}

async function running(frame: Frame, { planned }: Carrying, journal: Journal): Promise<RunResult> {
  const { plan } = planned;
  const { terminal } = frame;
  const bar = progressBar(terminal, plan.action, plan.count);
  // Without a progress bar, notes show what the run waits for.
  let noted: Progress["waitsFor"] = null;
  const isSilent = terminal.progressStream === undefined && !terminal.json;
  try {
    return await planned.run({
      journal,
      signal: frame.interruption.signal,
      onProgress({ done, failed, left, cameBack, step, waitsFor }) {
        if (isSilent && waitsFor !== null && waitsFor !== noted) terminal.note(`sent ${done}: ${WAITING[waitsFor]}`);
        noted = waitsFor;
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
  returns: "watching for messages that come back",
});

/** The rate and the ramp; empty for all at once. */
function paceText({ rate, ramp }: Pick<Plan, "rate" | "ramp">, before: string): string {
  const parts = [
    ...(rate === null ? [] : [`at most ${rate} per second`]),
    ...(ramp === null
      ? []
      : [
          `${ramp.first} first, then ${ramp.factor} times as many in each step`,
          `each step watched for ${formatDuration(ramp.observeMs)} after it is handled`,
          `stops when more than ${ramp.tolerate} came back`,
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
    ...plan.refused.map(({ why, count, example }) => `refused: ${count}, ${why} (such as ${example})`),
    ...(plan.beyondLimit > 0 ? [`${plan.beyondLimit} more are over the limit`] : []),
    ...(plan.rate === null && plan.ramp === null ? [] : [paceText(plan, "pace: ")]),
    ...(plan.edit === null ? [] : [`each is edited by ${plan.edit === "function" ? "the script" : "the patch"}`]),
    ...(more === "" ? [] : [more]),
    ...unseenText(plan),
  ].join("\n");
}

function resultText({ action }: Plan, result: RunResult): string {
  const { done, failed, left, missing, missingWhy, missed, cameBack, unproven, stopped, error, failures } = result;
  const counts = [
    `${action === "replay" ? "sent back" : "discarded"} ${done}`,
    ...(failed > 0 ? [`${failed} failed and stay`] : []),
    ...(left > 0 ? [`${left} were not edited and stay`] : []),
    ...(missing > 0 ? [`${missing} are missing`] : []),
    ...(cameBack > 0 ? [`${cameBack} came back`] : []),
  ];
  const why = Object.entries(missingWhy)
    .filter(([, count]) => count > 0)
    .map(([name, count]) => {
      const such = missed.find((one) => one.why === name);
      const now = such?.now === null || such === undefined ? "" : `, now ${such.now}`;
      return `missing: ${count} ${GONE[name as MissingReason]}${such === undefined ? "" : ` (such as ${such.id}${now})`}`;
    });
  const blind = `after ${unproven} ${unproven === 1 ? "step" : "steps"} it was unknown whether consumers had handled what was sent, since the broker does not report what they hold: watch longer than handling and retries take`;
  return [
    counts.join(", "),
    ...why,
    ...(unproven > 0 ? [blind] : []),
    ...failures.slice(0, 10).map((failure) => `failed: ${failure.id}: ${toldText(failure.error)}`),
    ...(stopped === undefined ? [] : [`stopped: ${WHY[stopped]}${error === undefined ? "" : `: ${toldText(error)}`}`]),
  ].join("\n");
}

const GONE: Readonly<Record<MissingReason, string>> = Object.freeze({
  handled: "done by earlier parts of this run",
  "dead-again": "sent back by others, and dead-lettered again under a new id",
  removed: "removed or sent back by others",
  unknown: "removed, or held by others; this broker does not report which",
});

const WHY: Readonly<Record<NonNullable<RunResult["stopped"]>, string>> = Object.freeze({
  cancelled: "it was interrupted; messages in progress were finished",
  "failed-again": "too many came back",
  unhandled:
    "consumers did not handle what was sent in time, so it is unknown whether it would come back; check that consumers run",
  held: "others hold what is left",
  error: "an error that would hit every message",
});

function resultJson(result: RunResult): Readonly<Record<string, unknown>> {
  const { error, failures, stopped = null, run: _, action: __, selected: ___, ...counts } = result;
  return {
    ...counts,
    stopped,
    error: error === undefined ? null : problemJson(error),
    failures: failures.map(({ id, messageId, error: problem }: Failure) => ({
      id,
      messageId,
      ...problemJson(problem),
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
