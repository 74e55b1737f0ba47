import { isMessagingError, MessagingError } from "../../../core/index.ts";
import { resultCode } from "../../../sql/sqlite.ts";

/** Primary result codes: https://www.sqlite.org/rescode.html */
const BUSY = 5;
const LOCKED = 6;
const READ_ONLY = 8;
const CONSTRAINT = 19;
/** Out of memory, interrupted, input or output failed, the disk is full: SQLite may roll back at once. */
const BREAKDOWNS = [7, 9, 10, 13];

/** Whether another connection holds the lock. */
export function isBusy(error: unknown): boolean {
  const code = resultCode(error);
  return code === BUSY || code === LOCKED;
}

/** Whether the database itself failed, as when the disk is full, and not what was asked of it. */
export function isBreakdown(error: unknown): boolean {
  const code = resultCode(error);
  return code !== undefined && BREAKDOWNS.includes(code);
}

/** Whether what was written breaks a rule of the schema. */
export function isConstraint(error: unknown): boolean {
  return resultCode(error) === CONSTRAINT;
}

/** Says of a failed call what went wrong and what to do. The cause keeps SQLite's own error. */
export function sqliteFailure(action: string, cause: unknown): MessagingError {
  if (isMessagingError(cause)) return cause;
  const where = `the SQLite database did not ${action}`;
  if (cause instanceof Error && cause.message.includes("no such table")) {
    return new MessagingError("not-found", `${where}: make its tables with migrate(), or name those that there are`, {
      cause,
    });
  }
  if (resultCode(cause) === READ_ONLY) {
    return new MessagingError("unauthorized", `${where}: the file, or the connection, takes no writes`, { cause });
  }
  const advice = isBusy(cause) ? "another connection holds its lock for long" : "see the cause";
  return new MessagingError("unreachable", `${where}: ${advice}; the call may be made again`, { cause });
}
