import { isMessagingError } from "../../core/errors.ts";
import {
  type DifferenceName,
  MIGRATION_STEPS,
  type MigrationControl,
  type MigrationProgress,
  type MigrationStatus,
  type MigrationStep,
  type ParityReport,
} from "../../patterns/migration/index.ts";
import { columns } from "../columns.ts";
import { CommandError, called } from "../exit-codes.ts";
import { type Frame, operatorOf } from "../frame.ts";
import { duration } from "../target.ts";
import type { Paint } from "../terminal.ts";
import { type Ended, verb } from "../verb.ts";
import { toldText } from "../wording.ts";

/** The exits of every `migrate` command. */
const MIGRATE_EXITS = {
  unavailable: "",
  "not-allowed": "",
  configuration: "the migration began with other destinations",
} as const;

/** The JSON of commands that show the status. */
const STATUS_JSON = {
  name: "",
  revision: "",
  step: "",
  share: "",
  pending: "the announced change: `step`, `share`, `since`, `by`, `waitingFor`",
  accepted: "",
  instances: "`instance`, `upToDate`, `problem`, `remainingMs`",
  history: "`at`, `by`, `what`, `step`, `share`",
} as const;

/** Makes the configuration's migration control, calls `use`, and always closes it. Throws a `CommandError` without one. */
async function withMigration<Result>(
  { configuration }: Frame,
  use: (control: MigrationControl) => Promise<Result>,
): Promise<Result> {
  const { migration } = configuration;
  if (migration === undefined) {
    const text = "no migration is configured: write anybroker.config.ts with migration: () => migrationControl({ … })";
    throw new CommandError("usage", text);
  }
  const control = await called("migration()", migration);
  try {
    return await use(control);
  } finally {
    await control.close();
  }
}

/** The JSON of a status: missing values are null. */
function statusJson(status: MigrationStatus): Readonly<Record<string, unknown>> {
  const { pending, instances, history } = status;
  return {
    ...status,
    pending: pending === undefined ? null : { ...pending, by: pending.by ?? null },
    instances: instances.map((one) => ({ ...one, problem: one.problem ?? null })),
    history: history.map((one) => ({ ...one, by: one.by ?? null })),
  };
}

/** The text of a status. */
function statusText(paint: Paint, { name, step, share, pending, instances, accepted }: MigrationStatus): string {
  const rows = instances.map(({ instance, upToDate, problem }) => [
    instance,
    { painted: upToDate ? paint.green("up to date") : paint.yellow(problem === undefined ? "catching up" : "behind") },
    problem ?? (upToDate || pending !== undefined ? undefined : "sees the last change at its next look"),
  ]);
  const lines = [`${paint.bold(name)}: ${step}, ${share} % of the keys on the new broker`];
  if (accepted.length > 0) lines.push(`accepted as lost: ${accepted.join(", ")}`);
  if (pending !== undefined) {
    const { by = "unknown", since, waitingFor } = pending;
    const waits = waitingFor.length === 0 ? "" : `, waiting for ${waitingFor.join(", ")}`;
    lines.push(`${paint.yellow("announced")} by ${by} at ${since}: ${pending.step}, ${pending.share} %${waits}`);
    lines.push("continue with: anybroker migrate advance; take back with: anybroker migrate rollback");
  }
  lines.push(rows.length === 0 ? "no instance runs" : columns(paint, ["INSTANCE", "", ""], rows));
  return lines.join("\n");
}

/** The text of a progress. */
function progressText(progress: MigrationProgress): string {
  switch (progress.waitingFor) {
    case "instances":
      return `waiting for ${progress.instances.join(", ")}`;
    case "empty":
      return `waiting until ${progress.source} is empty: ${progress.remaining} left`;
    case "bridge":
      return `moving ${progress.bridge.source}: ${progress.bridge.moved} moved`;
  }
}

/** A change of a migration. */
interface Changing {
  /** The question before the change. */
  readonly question: (status: MigrationStatus) => string;
  readonly dryRun: boolean;
  readonly yes: boolean;
  change(onProgress: (progress: MigrationProgress) => void): Promise<MigrationStatus>;
}

/** The additional JSON of `advance` and `rollback`. */
const CHANGE_JSON = {
  dryRun: "",
  from: "before: `step`, `share`",
} as const;

/** The exits of `advance` and `rollback`. */
const CHANGE_EXITS = {
  partly: "the same command continues",
  "try-again": "also: the source broker did not become empty",
} as const;

/** Asks, changes, and reports the status. An interrupted change stays announced. */
async function changeMigration(frame: Frame, control: MigrationControl, changing: Changing): Promise<Ended> {
  const { terminal, interruption } = frame;
  const { dryRun, yes } = changing;
  const before = await control.status();
  const json = { dryRun, from: { step: before.step, share: before.share } };
  const question = changing.question(before);
  const withStatus = (status: MigrationStatus) => ({ ...json, ...statusJson(status) });
  const { paint } = terminal;
  if (dryRun)
    return {
      json: withStatus(before),
      text: `${statusText(paint, before)}\n${question} Nothing was changed: --dry-run`,
    };
  await terminal.agreed(question, yes, interruption.signal);
  let last = "";
  const onProgress = (progress: MigrationProgress): void => {
    const text = progressText(progress);
    // Progress repeats while it waits.
    if (text !== last) terminal.note(terminal.notePaint.dim(text));
    last = text;
  };
  try {
    const after = await changing.change(onProgress);
    return { json: withStatus(after), text: statusText(paint, after) };
  } catch (error) {
    const brokeOff = interruption.signal.aborted || isMessagingError(error, "timeout");
    const status = brokeOff ? await control.status() : undefined;
    if (status?.pending === undefined) throw error;
    const why = error instanceof CommandError || !(error instanceof Error) ? "stopped" : toldText(error);
    return { json: withStatus(status), text: `${why}\n${statusText(paint, status)}`, exit: "partly" };
  }
}

export const migrateStatus = verb({
  name: "migrate status",
  summary: "Show how far a migration is",
  teaches: `Shows the step, the share of keys on the target broker, an announced change, and the instances. Asks the state store only.`,
  positionals: {},
  options: {},
  examples: [["migrate status", "where are we?"]],
  json: STATUS_JSON,
  exits: MIGRATE_EXITS,
  run: (_, frame) =>
    withMigration(frame, async (control) => {
      const status = await control.status();
      return { json: statusJson(status), text: statusText(frame.terminal.paint, status) };
    }),
});

export const migrateAdvance = verb({
  name: "migrate advance",
  summary: "Go to the next step of a migration, or to a larger share",
  teaches: `Steps: new, prepared, consuming, publishing, bridged, proven, retired. Announces the next one, waits until every live instance has taken it over, and puts it in force; or continues a change. After Ctrl-C the change stays announced.

Before "prepared", accept by name what the target broker lacks: --accept priority --accept rewind. "doctor --plan" lists it.`,
  positionals: {},
  options: {
    share: { type: "number", describe: "Percent of keys for the target broker, until publishing" },
    accept: { type: "string", array: true, describe: "A loss to accept; may be repeated" },
    rate: { type: "number", describe: "The most messages to move per second" },
    patience: { type: "string", describe: "How long to wait for instances and empty brokers. Default 2m" },
    "dry-run": { type: "boolean", default: false, describe: "Only show the status and the next step" },
    yes: { type: "boolean", default: false, alias: "y", describe: "Do not ask" },
  },
  examples: [
    ["migrate advance --accept priority", "begin, without priorities from now on"],
    ["migrate advance --share 10 --yes", "a tenth of the keys to the new broker"],
  ],
  json: { ...CHANGE_JSON, ...STATUS_JSON },
  exits: {
    ...MIGRATE_EXITS,
    ...CHANGE_EXITS,
    unavailable: "also: a loss is not accepted",
    configuration: "also: other destinations, a concurrent change, or a parity report with a difference",
  },
  run: (given, frame) =>
    withMigration(frame, async (control) => {
      const { share, accept, rate, patience, "dry-run": dryRun, yes } = given;
      return changeMigration(frame, control, {
        dryRun,
        yes,
        question: ({ step, pending, share: now }) => {
          if (pending !== undefined) return `Continue the announced change (${pending.step}, ${pending.share} %)?`;
          const next = share !== undefined && step === "publishing" && now < 100 ? "publishing" : after(step);
          return `Advance from ${step} to ${next}${share === undefined ? "" : `, with ${share} % of the keys`}?`;
        },
        change: (onProgress) =>
          control.advance({
            by: operatorOf(frame),
            signal: frame.interruption.signal,
            onProgress,
            ...(share === undefined ? {} : { share }),
            // The control checks the names.
            ...(accept === undefined ? {} : { accept: accept as readonly DifferenceName[] }),
            ...(rate === undefined ? {} : { rate }),
            ...(patience === undefined ? {} : { patienceMs: duration("--patience", patience) }),
          }),
      });
    }),
});

function after(step: MigrationStep): MigrationStep {
  return MIGRATION_STEPS[MIGRATION_STEPS.indexOf(step) + 1] ?? step;
}

export const migrateRollback = verb({
  name: "migrate rollback",
  summary: "Take back what is announced, or go a step back",
  teaches: `Takes back an announced change; else goes back one step, or to the given step or share. To leave "consuming", the target broker has to be empty; its dead letters are moved back.`,
  positionals: {},
  options: {
    to: { choices: MIGRATION_STEPS, describe: "The step to go back to" },
    share: { type: "number", describe: "Percent of keys that stay on the target broker" },
    rate: { type: "number", describe: "The most messages to move per second" },
    patience: { type: "string", describe: "How long to wait for instances and empty brokers. Default 2m" },
    "dry-run": { type: "boolean", default: false, describe: "Only show the status and the step back" },
    yes: { type: "boolean", default: false, alias: "y", describe: "Do not ask" },
  },
  examples: [
    ["migrate rollback", "one step, or what is announced"],
    ["migrate rollback --to new --yes", "all the way"],
  ],
  json: { ...CHANGE_JSON, ...STATUS_JSON },
  exits: {
    ...MIGRATE_EXITS,
    ...CHANGE_EXITS,
    configuration: "also: other destinations, or a concurrent change",
  },
  run: (given, frame) =>
    withMigration(frame, async (control) => {
      const { to, share, rate, patience, "dry-run": dryRun, yes } = given;
      const step = MIGRATION_STEPS.find((one) => one === to);
      return changeMigration(frame, control, {
        dryRun,
        yes,
        question: ({ pending, step: now }) => {
          if (pending !== undefined) return `Take back the announced change (${pending.step}, ${pending.share} %)?`;
          const aim = step ?? (share === undefined ? "the step before" : `${share} % of the keys`);
          return `Go back from ${now} to ${aim}?`;
        },
        change: (onProgress) =>
          control.rollback({
            by: operatorOf(frame),
            signal: frame.interruption.signal,
            onProgress,
            ...(step === undefined ? {} : { to: step }),
            ...(share === undefined ? {} : { share }),
            ...(rate === undefined ? {} : { rate }),
            ...(patience === undefined ? {} : { patienceMs: duration("--patience", patience) }),
          }),
      });
    }),
});

const MOST_IDS = 10;

export const migrateReport = verb({
  name: "migrate report",
  summary: "Compare published and handled ids",
  teaches: `Compares published with handled ids, and counts what is left on both brokers. Messages on their way count as missing: look again.`,
  positionals: {},
  options: {
    limit: { type: "number", default: 100, describe: "The most ids to show per difference" },
    "dead-letters": { type: "boolean", default: true, describe: "Look at the dead letters of both brokers" },
  },
  examples: [["migrate report --json", "for the record"]],
  json: {
    name: "",
    at: "",
    verdict: "`equal`, `different`, or `waived` without a journal",
    sources:
      "`source`, `published`, `handled`, `missing`, `dead`, `unexpected` (each `count` and `ids`), `remaining` (`from`, `to`)",
  },
  exits: { ...MIGRATE_EXITS, data: "ids are missing" },
  run: ({ limit, "dead-letters": deadLetters }, frame) =>
    withMigration(frame, async (control) => {
      const report = await control.report({ limit, deadLetters });
      const exit = report.verdict === "different" ? "data" : "done";
      const sources = report.sources.map(({ remaining, ...source }) => ({
        ...source,
        remaining: { from: remaining.from ?? null, to: remaining.to ?? null },
      }));
      const { name, at, verdict } = report;
      return { json: { name, at, verdict, sources }, text: reportText(frame.terminal.paint, report), exit };
    }),
});

function reportText(paint: Paint, { name, at, verdict, sources }: ParityReport): string {
  const rows = sources.map(({ source, published, handled, missing, dead, unexpected, remaining }) => [
    source,
    published,
    handled,
    { painted: missing.count > 0 ? paint.red(String(missing.count)) : "0" },
    dead.count,
    unexpected.count,
    remaining.from,
    remaining.to,
  ]);
  const names = [
    { name: "SOURCE", when: "whole" } as const,
    "PUBLISHED",
    "HANDLED",
    "MISSING",
    "DEAD",
    "UNEXPECTED",
    "LEFT ON OLD",
    "LEFT ON NEW",
  ];
  const missing = sources.flatMap(({ source, missing: { ids } }) =>
    ids.slice(0, MOST_IDS).map((id) => `${paint.red("missing")} ${paint.bold(source)} ${paint.dim(id)}`),
  );
  const paintVerdict = verdict === "equal" ? paint.green : verdict === "different" ? paint.red : paint.yellow;
  return [`${paint.bold(name)} at ${at}: ${paintVerdict(verdict)}`, columns(paint, names, rows), ...missing].join("\n");
}
