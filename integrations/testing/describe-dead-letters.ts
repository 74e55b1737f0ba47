import type { DeadLetterRecord } from "./records.ts";

const MOST_LINES = 20;

/** Dead letters as lines for people: which, why and after how many attempts; never their bodies or headers. */
export function describeDeadLetters(dead: readonly DeadLetterRecord[]): string {
  const lines = dead.slice(0, MOST_LINES).map(({ source, id, reason, attempts, errorClass, error }) => {
    const tried = attempts === 1 ? "1 attempt" : `${attempts} attempts`;
    return `\n- ${source}: message ${id}, ${reason} after ${tried}: ${errorClass}: ${error}`;
  });
  if (dead.length > MOST_LINES) lines.push(`\n- and ${dead.length - MOST_LINES} more`);
  return `${dead.length === 1 ? "1 dead letter" : `${dead.length} dead letters`}, where none was expected:${lines.join("")}`;
}
