import { isMessagingError } from "../core/errors.ts";
import type { MigrationControl, MigrationProgress, MigrationStatus } from "../patterns/migration/index.ts";
import { CommandError } from "./exit-codes.ts";
import type { Frame } from "./frame.ts";
import { progressText, statusText, toldStatus } from "./migrations.ts";
import type { Ended } from "./verb.ts";

/** What a command changes about a migration. */
export interface Changing {
  /** What is going to happen, for the question. */
  readonly question: (status: MigrationStatus) => string;
  readonly dryRun: boolean;
  readonly yes: boolean;
  change(onProgress: (progress: MigrationProgress) => void): Promise<MigrationStatus>;
}

/** What `advance` and `rollback` tell besides the status. */
export const CHANGE_JSON = {
  dryRun: "whether nothing was changed because of `--dry-run`",
  from: "the step and share before: `step`, `share`",
} as const;

/** How both may end. */
export const CHANGE_EXITS = {
  partly: "it was stopped, or not everybody took it over in time: it is announced, and the same command goes on",
  "try-again": "somebody else changed it at the same time, or the old broker did not become empty",
} as const;

/** Asks, changes, and tells how far it is then. What broke off is announced, and can be taken up or back. */
export async function changeMigration(frame: Frame, control: MigrationControl, changing: Changing): Promise<Ended> {
  const { terminal, interruption } = frame;
  const { dryRun, yes } = changing;
  const before = await control.status();
  const json = { dryRun, from: { step: before.step, share: before.share } };
  const question = changing.question(before);
  const told = (status: MigrationStatus) => ({ ...json, ...toldStatus(status) });
  const { paint } = terminal;
  if (dryRun)
    return { json: told(before), text: `${statusText(paint, before)}\n${question} Nothing was changed: --dry-run` };
  await terminal.agreed(question, yes, interruption.signal);
  let last = "";
  const onProgress = (progress: MigrationProgress): void => {
    const text = progressText(progress);
    // It is told again and again while it waits.
    if (text !== last) terminal.note(terminal.notePaint.dim(text));
    last = text;
  };
  try {
    const after = await changing.change(onProgress);
    return { json: told(after), text: statusText(paint, after) };
  } catch (error) {
    const brokeOff = interruption.signal.aborted || isMessagingError(error, "timeout");
    const status = brokeOff ? await control.status() : undefined;
    if (status?.pending === undefined) throw error;
    const why = error instanceof CommandError || !(error instanceof Error) ? "stopped" : error.message;
    return { json: told(status), text: `${why}\n${statusText(paint, status)}`, exit: "partly" };
  }
}
