import type { Failure, Plan, PlannedRun, RunOptions, RunResult } from "../patterns/dead-letters/index.ts";
import { type ExitName, exitOf } from "./exit-codes.ts";
import { removeFile, writeJson } from "./files.ts";
import type { Frame } from "./frame.ts";
import { progressBar } from "./progress.ts";
import { toldProblem } from "./standing.ts";
import type { Ended } from "./verb.ts";

/** How a plan is carried out. */
export interface Carrying {
  readonly planned: PlannedRun;
  readonly label: string;
  readonly dryRun: boolean;
  readonly yes: boolean;
  /** What is asked before. */
  readonly question: string;
  /** Where the plan is kept while it runs; else in the current folder. */
  readonly planFile: string | undefined;
  /** The command that takes it up again, without the file. */
  readonly resume: string;
  readonly run: Pick<RunOptions, "rate" | "ramp">;
}

/** What `dlq replay` and `dlq discard` both tell. */
export const RUN_JSON = {
  plan: "what was planned: `run`, `filter`, `plannedAt`, `count`, `destinations`, `refused` (`why`, `count`, `example`), `beyondLimit`, `to`, `held`, `complete`",
  dryRun: "whether it ended with the plan because of `--dry-run`",
  planFile: "the file in which the plan is kept, for `--resume`; null if there is nothing to go on with",
  result:
    "null if nothing was run; else `done`, `failed`, `left`, `missing`, `cameBack`, `stopped` (null, `cancelled`, `failed-again`, `held`, `error`), `error` (`code`, `message`) and `failures` (`id`, `messageId`, `code`, `message`; the first 100)",
} as const;

/** How both may end. */
export const RUN_EXITS = {
  partly: "some are done and some are not: `result.stopped` and `result.failures` say why, and `planFile` goes on",
  "try-again": "somebody else holds all of them, such as another run",
  "no-input": "the plan cannot be read",
  "cannot-create": "the plan, or the archive, cannot be written; nothing was done",
  data: "the filter or the plan cannot be read",
} as const;

/** Shows the plan, asks, keeps the plan in a file, runs it, and tells what became of it. */
export async function carryOut(frame: Frame, carrying: Carrying): Promise<Ended> {
  const { planned, dryRun, label, question, yes } = carrying;
  const { terminal, interruption } = frame;
  const { plan } = planned;
  const { entries: _, ...told } = plan;
  const json = { broker: label, destination: plan.source, plan: told, dryRun };
  if (dryRun || plan.count === 0) {
    const { planFile = null } = carrying;
    if (planFile !== null) await writeJson(planFile, frame.context, plan);
    const end = dryRun ? "nothing was done: --dry-run" : "there is nothing to do";
    return { json: { ...json, planFile, result: null }, text: `${planText(plan)}\n${end}` };
  }
  if (!terminal.json) terminal.note(planText(plan));
  await terminal.agreed(question, yes, interruption.signal);
  const { planFile = `anybroker-${plan.action}-${plan.run}.json` } = carrying;
  await writeJson(planFile, frame.context, plan);
  const result = await running(frame, carrying);
  const isOver = result.stopped === undefined && result.failed === 0;
  if (isOver) await removeFile(planFile, frame.context);
  const goOn = isOver ? [] : [`go on with: ${carrying.resume} --resume ${planFile}`];
  return {
    json: { ...json, planFile: isOver ? null : planFile, result: toldResult(result) },
    text: [resultText(plan, result), ...goOn].join("\n"),
    exit: exitFor(result),
  };
}

async function running(frame: Frame, { planned, run }: Carrying): Promise<RunResult> {
  const { plan } = planned;
  const bar = progressBar(frame.terminal, plan.action, plan.count);
  try {
    return await planned.run({
      ...run,
      signal: frame.interruption.signal,
      onProgress({ done, failed, left, cameBack, step }) {
        const details = [
          failed > 0 ? `${failed} failed` : "",
          cameBack > 0 ? `${cameBack} came back` : "",
          run.ramp ? `step ${step}` : "",
        ];
        bar.update(done + failed + left, details.filter((detail) => detail !== "").join(", "));
      },
    });
  } finally {
    bar.stop();
  }
}

function planText(plan: Plan): string {
  const where = plan.destinations.map(
    ({ destination, count }) => `${count} ${plan.action === "replay" ? "to" : "from"} ${destination}`,
  );
  return [
    `${plan.action} ${plan.count} dead letters of ${plan.source}${where.length === 0 ? "" : `: ${where.join(", ")}`}`,
    ...plan.refused.map(({ why, count, example }) => `left alone: ${count}, ${why} (such as ${example})`),
    ...(plan.beyondLimit > 0 ? [`${plan.beyondLimit} more are beyond the limit`] : []),
    ...(plan.complete ? [] : ["not everything that stands was seen: somebody else holds some"]),
  ].join("\n");
}

function resultText({ action }: Plan, result: RunResult): string {
  const { done, failed, left, missing, cameBack, stopped, error, failures } = result;
  const counts = [
    `${action === "replay" ? "sent back" : "discarded"} ${done}`,
    ...(failed > 0 ? [`${failed} failed and stand as before`] : []),
    ...(left > 0 ? [`${left} left as they were`] : []),
    ...(missing > 0 ? [`${missing} were not there any more`] : []),
    ...(cameBack > 0 ? [`${cameBack} came back`] : []),
  ];
  return [
    counts.join(", "),
    ...failures.slice(0, 10).map((failure) => `failed: ${failure.id}: ${failure.error.message}`),
    ...(stopped === undefined ? [] : [`stopped: ${WHY[stopped]}${error === undefined ? "" : `: ${error.message}`}`]),
  ].join("\n");
}

const WHY: Readonly<Record<NonNullable<RunResult["stopped"]>, string>> = Object.freeze({
  cancelled: "it was interrupted, and what was under way is finished",
  "failed-again": "too many came back to the dead letters",
  held: "somebody else holds what is left",
  error: "something that would meet every message",
});

function toldResult(result: RunResult): Readonly<Record<string, unknown>> {
  const { done, failed, left, missing, cameBack, stopped = null, error, failures, edited } = result;
  return {
    ...{ done, failed, left, missing, cameBack, stopped, edited },
    error: error === undefined ? null : toldProblem(error),
    failures: failures.map(({ id, messageId, error: problem }: Failure) => ({
      id,
      messageId,
      ...toldProblem(problem),
    })),
  };
}

function exitFor({ done, failures, stopped, error }: RunResult): ExitName {
  const [failure] = failures;
  if (stopped === undefined && failure === undefined) return "done";
  if (done > 0) return "partly";
  if (stopped === "cancelled") return "interrupted";
  if (stopped === "held") return "try-again";
  return error === undefined && failure === undefined ? "partly" : exitOf(error ?? failure?.error);
}
