import { isMessagingError } from "../core/errors.ts";
import type { MigrationControl, MigrationProgress, MigrationStatus } from "../patterns/migration/index.ts";
import { columns } from "./columns.ts";
import { CommandError } from "./exit-codes.ts";
import type { Frame } from "./frame.ts";
import type { Paint } from "./terminal.ts";
import type { Ended } from "./verb.ts";

/** The exits of every `migrate` command. */
export const MIGRATE_EXITS = {
  unavailable: "",
  "not-allowed": "",
  configuration: "the migration began with other destinations",
} as const;

/** The JSON of commands that show the status. */
export const STATUS_JSON = {
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
export async function withMigration<Result>(
  { configuration }: Frame,
  use: (control: MigrationControl) => Promise<Result>,
): Promise<Result> {
  const { migration } = configuration;
  if (migration === undefined) {
    const text = "no migration is configured: write anybroker.config.ts with migration: () => migrationControl({ … })";
    throw new CommandError("usage", text);
  }
  const control = await migration();
  try {
    return await use(control);
  } finally {
    await control.close();
  }
}

/** The JSON of a status: missing values are null. */
export function statusJson(status: MigrationStatus): Readonly<Record<string, unknown>> {
  const { pending, instances, history } = status;
  return {
    ...status,
    pending: pending === undefined ? null : { ...pending, by: pending.by ?? null },
    instances: instances.map((one) => ({ ...one, problem: one.problem ?? null })),
    history: history.map((one) => ({ ...one, by: one.by ?? null })),
  };
}

/** The text of a status. */
export function statusText(paint: Paint, { name, step, share, pending, instances, accepted }: MigrationStatus): string {
  const rows = instances.map(({ instance, upToDate, problem }) => [
    instance,
    { painted: upToDate ? paint.green("up to date") : paint.yellow("behind") },
    problem,
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
export const CHANGE_JSON = {
  dryRun: "",
  from: "before: `step`, `share`",
} as const;

/** The exits of `advance` and `rollback`. */
export const CHANGE_EXITS = {
  partly: "the same command continues",
  "try-again": "also: the source broker did not become empty",
} as const;

/** Asks, changes, and reports the status. An interrupted change stays announced. */
export async function changeMigration(frame: Frame, control: MigrationControl, changing: Changing): Promise<Ended> {
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
    const why = error instanceof CommandError || !(error instanceof Error) ? "stopped" : error.message;
    return { json: withStatus(status), text: `${why}\n${statusText(paint, status)}`, exit: "partly" };
  }
}
