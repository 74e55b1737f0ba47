import { readdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { formatDuration } from "../../patterns/dead-letters/filter.ts";
import {
  type JournalLine,
  type Plan,
  planFrom,
  type ReportedPart,
  type RunReport,
  runReport,
} from "../../patterns/dead-letters/index.ts";
import { type Cell, columns } from "../columns.ts";
import type { Context } from "../context.ts";
import { CommandError } from "../exit-codes.ts";
import { readJson } from "../files.ts";
import type { Frame } from "../frame.ts";
import { fileExists, isPlanFile, openJournal, RUNS_FOLDER, runFiles } from "../planned-run.ts";
import { type Paint, preview } from "../terminal.ts";
import { verb } from "../verb.ts";

const LONGEST_ERROR = 60;
/** The most messages that are listed without `--messages`. */
const FEW = 20;

export const dlqReport = verb({
  name: "dlq report",
  summary: "What replays and discards did, message by message",
  teaches: `Reads plan and journal of a run, without a broker: what was planned, by whom and when, and the outcome of each group and message. Without a run it lists the runs in anybroker-runs.

For messages that came back after the watch, use "dlq groups" with the filter header.anybroker-replay-run = <run>.`,
  positionals: {
    run: {
      type: "string",
      describe: "A plan file, or the id of a run or its beginning",
    },
  },
  options: { messages: { type: "boolean", default: false, describe: "List every message, also more than 20" } },
  examples: [
    ["dlq report", "the runs that were kept here"],
    ["dlq report 019a5a3e --messages", "one of them, for those who have to know"],
    ["dlq report anybroker-runs/replay-019a5a3e.json --json", "for a program"],
  ],
  json: {
    runs: "without a run: `file`, `run`, `action`, `source`, `plannedAt`, `plannedBy`, `count`, `outcomes`, `open`, `stopped`",
    report:
      "with a run: `run`, `action`, `source`, `filter`, `plannedAt`, `plannedBy`, `count`, `rate`, `ramp`, `edited`, `destinations`, `refused`, `parts` (`by`, `begunAt`, `endedAt`, `stopped`, `rate`, `ramp`), `outcomes`, `open`, `groups`, `messages` (`id`, `messageId`, `group`, `outcome`, `at`, `by`, `detail`, `cameBack`)",
  },
  exits: {
    "no-input": "",
    "not-found": "",
    data: "",
  },
  async run({ run, messages }, frame) {
    if (run === undefined) return listed(frame);
    const report = await reportOf(await fileOf(run, frame.context), frame);
    return { json: { runs: [], report }, text: reportText(frame.terminal.paint, report, messages) };
  },
});

async function listed(frame: Frame) {
  const { paint } = frame.terminal;
  const files = await keptPlans(frame.context);
  const reports = await Promise.all(files.map(async (file) => ({ file, ...(await reportOf(file, frame)) })));
  const runs = reports
    .map(({ file, run, action, source, plannedAt, plannedBy, count, outcomes, open, parts }) => {
      const stopped = parts.at(-1)?.stopped ?? null;
      return { file, run, action, source, plannedAt, plannedBy, count, outcomes, open, stopped };
    })
    .sort((one, other) => (one.plannedAt < other.plannedAt ? -1 : 1));
  const rows = runs.map(({ run, action, source, plannedAt, plannedBy, count, outcomes, open, stopped }): Cell[] => [
    run,
    action,
    source,
    plannedAt,
    plannedBy,
    count,
    outcomes.replayed + outcomes.edited + outcomes.discarded,
    outcomes["came-back"],
    open,
    stopped ?? "",
  ]);
  const text =
    runs.length === 0
      ? `there are no runs in ${RUNS_FOLDER}`
      : columns(
          paint,
          [{ name: "RUN", when: "whole" }, "", "OF", "PLANNED", "BY", "COUNT", "DONE", "CAME BACK", "OPEN", "STOPPED"],
          rows,
        );
  return { json: { runs, report: null }, text };
}

async function keptPlans({ cwd }: Pick<Context, "cwd">): Promise<readonly string[]> {
  const names = await readdir(resolve(cwd, RUNS_FOLDER)).catch(() => []);
  return names.filter(isPlanFile).map((name) => join(RUNS_FOLDER, name));
}

/** An existing file, or the one stored plan whose run begins with the text. */
async function fileOf(given: string, context: Context): Promise<string> {
  if (await fileExists(given, context)) return given;
  const found = (await keptPlans(context)).filter((file) => file.includes(`-${given}`));
  const [file, other] = found;
  if (file === undefined) {
    const text = `${given} is no file, and no run in ${RUNS_FOLDER} begins with it: dlq report without a run lists them`;
    throw new CommandError("not-found", text);
  }
  if (other !== undefined) throw new CommandError("usage", `several runs begin with ${given}: ${found.join(", ")}`);
  return file;
}

async function reportOf(file: string, { context, interruption }: Frame): Promise<RunReport> {
  let plan: Plan;
  try {
    plan = planFrom(await readJson(file, context, interruption.signal));
  } catch (cause) {
    if (cause instanceof CommandError) throw cause;
    throw new CommandError("data", `${file} has no plan of a replay or a discard`, { cause });
  }
  const files = runFiles(file);
  const lines: JournalLine[] = [];
  if (await fileExists(files.journal, context)) {
    const journal = openJournal(files, context);
    try {
      for await (const line of journal.read()) lines.push(line);
    } catch (cause) {
      throw new CommandError("no-input", `the journal ${files.journal} cannot be read`, { cause });
    } finally {
      await journal.close();
    }
  }
  return runReport(plan, lines);
}

function partText({ by, begunAt, endedAt, stopped, ...pace }: ReportedPart): string {
  const who = [`${begunAt} to ${endedAt ?? "(not ended)"} by ${by ?? "unknown"}`, ...paceOf(pace)].join(", ");
  return stopped === null ? who : `${who}: stopped, ${stopped}`;
}

function paceOf({ rate, ramp }: Pick<ReportedPart, "rate" | "ramp">): readonly string[] {
  return [
    ...(rate === null ? [] : [`${rate} a second`]),
    ...(ramp === null
      ? []
      : [`ramp ${ramp.first} × ${ramp.factor}, ${formatDuration(ramp.observeMs)} each, tolerating ${ramp.tolerate}`]),
  ];
}

function reportText(paint: Paint, report: RunReport, all: boolean): string {
  const { run, action, source, filter, plannedAt, plannedBy, count, rate, ramp, edited, outcomes, open } = report;
  const { parts, groups, refused, messages, destinations } = report;
  const where = destinations.map(({ destination }) => destination).join(", ");
  // A resumed part can have another pace, so each names its own.
  const how = [
    ...(parts.length > 0 ? [] : paceOf({ rate, ramp })),
    ...(edited === null ? [] : [`edited by a ${edited}`]),
  ];
  const facts: [string, string][] = [
    ["run", run],
    ["what", `${action} of dead letters of ${source}${action === "replay" ? ` to ${where}` : ""}`],
    ["which", filter],
    ["planned", `${plannedAt} by ${plannedBy ?? "unknown"}: ${count}`],
    ...(how.length === 0 ? [] : [["how", how.join(", ")] as [string, string]]),
    ...parts.map((part): [string, string] => ["run by", partText(part)]),
    ...refused.map(({ why, count: left }): [string, string] => ["refused", `${left}: ${why}`]),
  ];
  const totals = Object.entries({ ...outcomes, open }).filter(([, number]) => number > 0);
  const table = columns(
    paint,
    [
      { name: "GROUP", when: "whole" },
      { name: "ERROR", when: "cut" },
      "PLANNED",
      "REPLAYED",
      "EDITED",
      "DISCARDED",
      "FAILED",
      "LEFT",
      "MISSING",
      "CAME BACK",
    ],
    groups.map((one) => [
      one.group,
      preview([one.errorClass, one.error].filter((part) => part !== null && part !== "").join(": "), LONGEST_ERROR),
      one.planned,
      one.replayed,
      one.edited,
      one.discarded,
      one.failed,
      one.left,
      one.missing,
      one["came-back"],
    ]),
  );
  const shown = all || messages.length <= FEW ? messages : [];
  const list = columns(
    paint,
    [{ name: "MESSAGE", when: "whole" }, "GROUP", "OUTCOME", "WHEN", "BY", "MORE"],
    shown.map(({ messageId, group, outcome, at, by, detail, cameBack }) => [
      messageId,
      group,
      `${outcome ?? "open"}${cameBack ? ", came back" : ""}`,
      at,
      by,
      detail ?? "",
    ]),
  );
  return [
    facts.map(([name, value]) => `${paint.dim(name.padEnd(12))} ${value}`).join("\n"),
    totals.length === 0 ? "nothing was done yet" : totals.map(([name, number]) => `${name} ${number}`).join(", "),
    ...(groups.length === 0 ? [] : [table]),
    shown.length === 0 && messages.length > 0 ? `${messages.length} messages: --messages lists them` : list,
  ].join("\n\n");
}
