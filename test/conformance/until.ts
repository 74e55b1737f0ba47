import { setTimeout as sleep } from "node:timers/promises";

export interface UntilOptions {
  /** How long to wait, in milliseconds, before the case has failed. */
  readonly timeoutMs: number;
  /** What is waited for, as the failure says it. */
  readonly what: string;
  /** What was there instead, for the failure. */
  readonly state?: () => string;
}

/** Waits for a condition. A condition that throws fails at once; one that never holds fails by the deadline, with `state`. */
export async function until(condition: () => boolean | Promise<boolean>, options: UntilOptions): Promise<void> {
  const end = performance.now() + options.timeoutMs;
  while (!(await condition())) {
    if (performance.now() >= end) {
      const state = options.state?.() ?? "";
      throw new Error(`waited ${options.timeoutMs} ms in vain for ${options.what}${state && `\n${state}`}`);
    }
    await sleep(10);
  }
}
