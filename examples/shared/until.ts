import { setTimeout as sleep } from "node:timers/promises";
import type { Progress } from "./progress.ts";

const LOOK_EVERY_MS = 20;

/** Waits until something is so, and shows the state meanwhile. Rejects when the state has been the same for `patienceMs`. */
export async function until(
  what: string,
  isSo: () => boolean,
  progress: Progress,
  state: () => string,
  patienceMs = 180_000,
): Promise<void> {
  while (!isSo()) {
    progress.show(state());
    if (progress.idleMs > patienceMs) throw new Error(`nothing went on any more before ${what}`);
    await sleep(LOOK_EVERY_MS);
  }
}
