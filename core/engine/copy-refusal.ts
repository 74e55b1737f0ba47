import { isMessagingError, MessagingError, type MessagingErrorCode } from "../errors.ts";

/**
 * Why a copy was not confirmed:
 * `message`: the broker never takes it as it is, though perhaps a smaller one;
 * `place`: nothing can be sent there now, whatever it is;
 * `unclear`: anything else; the same copy may be taken later.
 */
export type RefusalKind = "message" | "place" | "unclear";

/** A copy that was not confirmed. */
export interface CopyRefusal {
  readonly kind: RefusalKind;
  readonly error: MessagingError;
}

const OF_THE_MESSAGE: readonly MessagingErrorCode[] = ["too-large", "invalid", "unsupported"];
const OF_THE_PLACE: readonly MessagingErrorCode[] = ["unauthorized", "not-found", "conflict", "unroutable"];

/** What the rejection of a send says about the copy. */
export function copyRefusal(cause: unknown): CopyRefusal {
  const error = isMessagingError(cause) ? cause : new MessagingError("refused", "the copy failed", { cause });
  // A refusal behind a try without an answer is a refusal of the next try too.
  const refusal = error.code === "unconfirmed" && isMessagingError(error.cause) ? error.cause : error;
  if (OF_THE_MESSAGE.includes(refusal.code)) return { kind: "message", error };
  return { kind: OF_THE_PLACE.includes(refusal.code) ? "place" : "unclear", error };
}
