import type { MessagingError, MessagingErrorCode } from "../../core/errors.ts";
import type { DeadLetter } from "./dead-letter.ts";

/**
 * What became of a dead letter: `done`, so that it can be removed; `left`, because nobody wanted more; or why not. `sent` is
 * the id under which it was sent, if that is another than its own.
 */
export type Outcome =
  | { readonly kind: "done"; readonly sent?: string }
  | { readonly kind: "left" }
  | { readonly kind: "failed"; readonly error: MessagingError };

/** What a run does to dead letters before it removes them. */
export interface Action {
  /** How many are given to one call. */
  readonly batch: number;
  /** How many calls may be under way. */
  readonly concurrency: number;
  /** The ids of messages that were begun with, where those are others than the dead letters' own. */
  readonly begun?: ReadonlySet<string>;
  /** What dead letters have in common of which one is enough to be made safe. */
  sameness(letter: DeadLetter): string;
  /**
   * Makes them safe elsewhere. Resolves with what became of each, in order; `done` only for what the broker or the archive
   * has confirmed. Never rejects.
   */
  perform(letters: readonly DeadLetter[]): Promise<readonly Outcome[]>;
}

export const DONE: Outcome = Object.freeze({ kind: "done" });
export const LEFT: Outcome = Object.freeze({ kind: "left" });

/** What is about one message only; any other failure would meet the next one too, and ends the run. */
const OF_ONE_MESSAGE: readonly MessagingErrorCode[] = ["invalid", "too-large", "refused"];

export function endsRun({ code }: MessagingError): boolean {
  return !OF_ONE_MESSAGE.includes(code);
}
