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
 * Return it from a handler to have the message tried again, after `afterMs` milliseconds (never earlier) or, without it,
 * the delay of the retry policy. It counts as a failed attempt: after the policy's last one the message is dead-lettered.
 */
export function retry(options: { readonly afterMs?: number } = {}): RetryOutcome {
  const { afterMs } = options;
  if (afterMs !== undefined) checkAfter("retry", afterMs);
  return { [OUTCOME]: "retry", afterMs };
}

/**
 * Return it from a handler to have the message come again after `afterMs` milliseconds (1,000 unless given; never
 * earlier) as if it had not been tried: it is no failure and uses up no attempt, however often it is returned. For what
 * is not the message's fault, such as a dependency that is down. On an ordered destination its key waits; on any other
 * the message falls back behind others.
 */
export function postpone(options: { readonly afterMs?: number } = {}): PostponeOutcome {
  const { afterMs = DEFAULT_POSTPONE_MS } = options;
  checkAfter("postpone", afterMs);
  return { [OUTCOME]: "postpone", afterMs };
}

/** Return it from a handler to have the message dead-lettered at once, with this reason. */
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
