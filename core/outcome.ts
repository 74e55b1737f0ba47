import { MessagingError } from "./errors.ts";

const OUTCOME = Symbol.for("anybroker.outcome");

const DEFAULT_POSTPONE_MS = 1_000;

/** An explicit result of a handler; made by {@link retry}, {@link postpone} and {@link deadLetter}. */
export type Outcome = RetryOutcome | PostponeOutcome | DeadLetterOutcome;

export interface RetryOutcome {
  readonly [OUTCOME]: "retry";
  readonly afterMs: number | undefined;
}

export interface PostponeOutcome {
  readonly [OUTCOME]: "postpone";
  readonly afterMs: number;
}

export interface DeadLetterOutcome {
  readonly [OUTCOME]: "dead-letter";
  readonly reason: string;
}

/**
 * Return it from a handler to have the message tried again, `afterMs` milliseconds later and never earlier. Default: the
 * delay of the retry policy. It counts as a failed attempt: after the policy's last one the message is dead-lettered.
 */
export function retry(options: { readonly afterMs?: number } = {}): RetryOutcome {
  const { afterMs } = options;
  if (afterMs !== undefined) checkAfter("retry", afterMs);
  return { [OUTCOME]: "retry", afterMs };
}

/**
 * Return it from a handler to have the message delivered again, `afterMs` milliseconds later and never earlier, without
 * using up an attempt. Default 1,000. Use it when the message is not at fault, such as when a dependency is down. On an
 * ordered destination its key waits; on others the message falls behind later ones.
 */
export function postpone(options: { readonly afterMs?: number } = {}): PostponeOutcome {
  const { afterMs = DEFAULT_POSTPONE_MS } = options;
  checkAfter("postpone", afterMs);
  return { [OUTCOME]: "postpone", afterMs };
}

/** Return it from a handler to dead-letter the message at once, with this reason. */
export function deadLetter(reason: string): DeadLetterOutcome {
  if (typeof reason !== "string" || reason === "") {
    throw new MessagingError("invalid", "deadLetter(reason) takes a text that tells a person why");
  }
  return { [OUTCOME]: "dead-letter", reason };
}

function checkAfter(what: string, afterMs: number): void {
  if (Number.isFinite(afterMs) && afterMs >= 0) return;
  throw new MessagingError("invalid", `${what}({ afterMs }) takes a number of milliseconds from 0 up, not ${afterMs}`);
}

/** The kind of outcome a handler returned, or undefined for anything else. */
export function outcomeKind(value: unknown): Outcome[typeof OUTCOME] | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  return (value as Partial<Outcome>)[OUTCOME];
}
