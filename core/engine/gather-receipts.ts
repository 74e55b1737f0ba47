import type { Receipt } from "../broker.ts";
import { MessagingError, type SendOutcome } from "../errors.ts";
import { checkEntries } from "../given.ts";

/** Sends each of a list, and gathers the receipts. Rejects with `invalid` for what is no list of entries; nothing is sent then. */
export async function sendEach<One>(
  where: string,
  entries: readonly One[],
  send: (entry: One) => Promise<Receipt>,
): Promise<readonly Receipt[]> {
  checkEntries(where, entries);
  return gatherReceipts(entries.map(send));
}

/** The receipts of all sends, in order; rejects with `partly-failed` and the end of each if any failed. */
export async function gatherReceipts(sends: readonly Promise<Receipt>[]): Promise<readonly Receipt[]> {
  const ends = await Promise.allSettled(sends);
  const receipts = ends.flatMap((end) => (end.status === "fulfilled" ? [end.value] : []));
  if (receipts.length === ends.length) return receipts;
  const outcomes = ends.map((end): SendOutcome => {
    if (end.status === "fulfilled") return { status: "confirmed", id: end.value.id };
    return { status: "failed", error: end.reason as MessagingError };
  });
  const failed = ends.length - receipts.length;
  throw new MessagingError(
    "partly-failed",
    `${failed} of ${ends.length} messages failed; error.outcomes has the end of each, in order`,
    { outcomes },
  );
}
