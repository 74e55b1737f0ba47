import type { MigrationControl, MigrationProgress, MigrationStatus } from "../patterns/migration/index.ts";
import { columns } from "./columns.ts";
import { CommandError } from "./exit-codes.ts";
import type { Frame } from "./frame.ts";
import type { Paint } from "./paint.ts";

/** How every `migrate` command may end. */
export const MIGRATE_EXITS = {
  unavailable: "the state store, or a broker, cannot be reached",
  "not-allowed": "one of them refuses the login or a right",
  configuration: "the migration was begun with other destinations",
} as const;

/** What those tell that show how far it is. */
export const STATUS_JSON = {
  name: "the migration's name",
  revision: "counted up with every change",
  step: "`new`, `prepared`, `consuming`, `publishing`, `bridged`, `proven` or `retired`",
  share: "percent of the keys that are published to the new broker",
  pending: "what is announced and not in force: `step`, `share`, `since`, `by`, `waitingFor`; else null",
  accepted: "what is lost and was accepted, by name",
  instances: "the instances of the services: `instance`, `upToDate`, `problem`, `remainingMs`",
  history: "the last changes, oldest first: `at`, `by`, `what`, `step`, `share`",
} as const;

/** Lets the configuration's migration be driven, and closes it whatever happened. Throws a `CommandError` if there is none. */
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

/** Who changes something, for the history. */
export function changedBy({ configuration, context: { env } }: Frame): string {
  return configuration.by ?? env.USER ?? env.LOGNAME ?? env.USERNAME ?? "unknown";
}

/** A status in JSON: what is not there is null. */
export function toldStatus(status: MigrationStatus): Readonly<Record<string, unknown>> {
  const { pending, instances, history } = status;
  return {
    ...status,
    pending: pending === undefined ? null : { ...pending, by: pending.by ?? null },
    instances: instances.map((one) => ({ ...one, problem: one.problem ?? null })),
    history: history.map((one) => ({ ...one, by: one.by ?? null })),
  };
}

/** A status as people read it. */
export function statusText(paint: Paint, { name, step, share, pending, instances, accepted }: MigrationStatus): string {
  const rows = instances.map(({ instance, upToDate, problem }) => [
    instance,
    { painted: upToDate ? paint.green("up to date") : paint.yellow("behind") },
    problem,
  ]);
  const lines = [`${paint.bold(name)}: ${step}, ${share} % of the keys on the new broker`];
  if (accepted.length > 0) lines.push(`accepted as lost: ${accepted.join(", ")}`);
  if (pending !== undefined) {
    const { by = "somebody", since, waitingFor } = pending;
    const waits = waitingFor.length === 0 ? "" : `, waiting for ${waitingFor.join(", ")}`;
    lines.push(`${paint.yellow("announced")} by ${by} at ${since}: ${pending.step}, ${pending.share} %${waits}`);
    lines.push("go on with: anybroker migrate advance; take back with: anybroker migrate rollback");
  }
  lines.push(rows.length === 0 ? "no instance runs" : columns(paint, ["INSTANCE", "", ""], rows));
  return lines.join("\n");
}

/** What a change is at. */
export function progressText(progress: MigrationProgress): string {
  switch (progress.waitingFor) {
    case "instances":
      return `waiting for ${progress.instances.join(", ")}`;
    case "empty":
      return `waiting until ${progress.source} is empty: ${progress.remaining} left`;
    case "bridge":
      return `moving ${progress.bridge.source}: ${progress.bridge.moved} moved`;
  }
}
