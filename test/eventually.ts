import { vi } from "vitest";

/** Far longer than anything takes even on a busy machine, so that only what never comes fails. */
const PATIENCE_MS = 240_000;

/** Tries again until `attempt` passes. */
export function eventually<T>(attempt: () => T | Promise<T>): Promise<T> {
  return vi.waitFor(attempt, { timeout: PATIENCE_MS });
}
