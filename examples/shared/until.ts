import { setTimeout as sleep } from "node:timers/promises";
import type { Progress } from "./progress.ts";

const LOOK_EVERY_MS = 20;

/** Waits until something is so, and shows the state meanwhile. Rejects when the run has taken longer than `deadlineMs`. */
export async function until(
  what: string,
  isSo: () => boolean,
  progress: Progress,
  state: () => string,
  deadlineMs = 180_000,
): Promise<void> {
  while (!isSo()) {
    if (Number(progress.seconds) * 1_000 > deadlineMs) throw new Error(`the time was up before ${what}`);
    progress.show(state());
    await sleep(LOOK_EVERY_MS);
  }
}
