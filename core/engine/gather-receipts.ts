import type { Receipt } from "../broker.ts";
import { MessagingError, type SendOutcome } from "../errors.ts";

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
