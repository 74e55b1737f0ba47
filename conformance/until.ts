import { setTimeout as sleep } from "node:timers/promises";

export interface UntilOptions {
  /** For how long the state may stay the same, in milliseconds, before the case has failed; in all three times as long. */
  readonly timeoutMs: number;
  /** What is waited for, as the failure says it. */
  readonly what: string;
  /** What was there instead, for the failure. A machine that is slow is told by it from one where nothing goes on. */
  readonly state?: () => string;
}

const IN_ALL = 3;
const LOOKS_AT_STATE = 10;

/** Waits for a condition. A condition that throws fails at once; one that never holds fails in the end, with `state`. */
export async function until(condition: () => boolean | Promise<boolean>, options: UntilOptions): Promise<void> {
  const { timeoutMs, what, state = () => "" } = options;
  const begin = performance.now();
  let [seen, seenAt, changedAt] = [state(), begin, begin];
  while (!(await condition())) {
    const now = performance.now();
    if (now >= seenAt + timeoutMs / LOOKS_AT_STATE) {
      const before = seen;
      [seen, seenAt] = [state(), now];
      if (seen !== before) changedAt = now;
    }
    if (now >= Math.min(changedAt + timeoutMs, begin + IN_ALL * timeoutMs)) {
      throw new Error(`waited ${Math.round(now - begin)} ms in vain for ${what}${seen && `\n${seen}`}`);
    }
    await sleep(10);
  }
}
