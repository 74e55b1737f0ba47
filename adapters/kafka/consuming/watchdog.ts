import type { MessagingError } from "../../../core/errors.ts";
import type { Cursor } from "./cursor.ts";
import { quotaError, silentError, transactionError } from "./stalls.ts";

/** How long nothing may be heard of a partition that could be read. */
const SILENT_MS = 30_000;

/**
 * Why nothing comes from a partition, if nothing does for too long; `readable` tells whether something should. Connecting
 * anew may help, except where others keep a transaction open, or a quota is used up.
 */
export function silence(
  cursor: Cursor,
  now: number,
  readable: boolean,
): { readonly cause: MessagingError; readonly kind: string; readonly reconnect: boolean } | undefined {
  if (!readable) {
    cursor.heardAt = now;
    cursor.movedAt = now;
    return undefined;
  }
  const silentMs = now - cursor.heardAt;
  const stuckMs = now - cursor.movedAt;
  if (silentMs < SILENT_MS && (stuckMs < SILENT_MS || cursor.behind <= 0)) return undefined;
  // Told again after as long a time.
  cursor.heardAt = now;
  cursor.movedAt = now;
  const longest = Math.max(silentMs, stuckMs);
  if (cursor.throttled) {
    return { cause: quotaError(cursor.partition, longest), kind: "quota", reconnect: false };
  }
  if (silentMs < SILENT_MS && cursor.readable <= 0) {
    const cause = transactionError(cursor.partition, stuckMs, cursor.behind);
    return { cause, kind: "transaction", reconnect: false };
  }
  return { cause: silentError(cursor.partition, longest, cursor.behind), kind: "silent", reconnect: true };
}
