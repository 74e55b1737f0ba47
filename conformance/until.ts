import { setTimeout as sleep } from "node:timers/promises";

export interface UntilOptions {
  /** The longest time without a change of `state`, in milliseconds. The whole wait may take three times as long. */
  readonly timeoutMs: number;
  /** The condition, for the error. */
  readonly what: string;
  /** The current state, for the error. Changes of it distinguish a slow machine from a standstill. */
  readonly state?: () => string;
}

const MOST_TIMEOUTS = 3;
const CHECKS_OF_STATE = 10;

/** Waits for a condition. Throws what the condition throws, and after the time an error with `state`. */
export async function until(condition: () => boolean | Promise<boolean>, options: UntilOptions): Promise<void> {
  const { timeoutMs, what, state = () => "" } = options;
  const begin = performance.now();
  let [seen, seenAt, changedAt] = [state(), begin, begin];
  while (!(await condition())) {
    const now = performance.now();
    if (now >= seenAt + timeoutMs / CHECKS_OF_STATE) {
      const before = seen;
      [seen, seenAt] = [state(), now];
      if (seen !== before) changedAt = now;
    }
    if (now >= Math.min(changedAt + timeoutMs, begin + MOST_TIMEOUTS * timeoutMs)) {
      throw new Error(`waited ${Math.round(now - begin)} ms in vain for ${what}${seen && `\n${seen}`}`);
    }
    await sleep(10);
  }
}
