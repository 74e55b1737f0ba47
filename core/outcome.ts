import { MessagingError } from "./errors.ts";

const OUTCOME = Symbol.for("anybroker.outcome");

/** An explicit result of a handler; made by {@link retry} and {@link deadLetter}. */
export type Outcome = RetryOutcome | DeadLetterOutcome;

export interface RetryOutcome {
  readonly [OUTCOME]: "retry";
  readonly afterMs: number | undefined;
}

export interface DeadLetterOutcome {
  readonly [OUTCOME]: "dead-letter";
  readonly reason: string;
}

/**
 * Return it from a handler to have the message tried again, after `afterMs` milliseconds (never earlier) or, without it,
 * the delay of the retry policy. It counts as a failed attempt: after the policy's last one the message is dead-lettered.
 */
export function retry(options: { readonly afterMs?: number } = {}): RetryOutcome {
  const { afterMs } = options;
  if (afterMs !== undefined && !(Number.isFinite(afterMs) && afterMs >= 0)) {
    throw new MessagingError("invalid", `retry({ afterMs }) takes a number of milliseconds from 0 up, not ${afterMs}`);
  }
  return { [OUTCOME]: "retry", afterMs };
}

/** Return it from a handler to have the message dead-lettered at once, with this reason. */
export function deadLetter(reason: string): DeadLetterOutcome {
  if (typeof reason !== "string" || reason === "") {
    throw new MessagingError("invalid", "deadLetter(reason) takes a text that tells a person why");
  }
  return { [OUTCOME]: "dead-letter", reason };
}

/** The kind of outcome a handler returned, or undefined for anything else. */
export function outcomeKind(value: unknown): "retry" | "dead-letter" | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  return (value as Partial<Outcome>)[OUTCOME];
}
