import { setTimeout as sleep } from "node:timers/promises";

/**
 * Tries again until `attempt` resolves, and returns what it resolved with. Past the deadline rejects with an error that
 * names what was waited for and holds the last failure as `cause`; rejects early when the signal is aborted.
 */
export async function until<T>(
  what: string,
  deadlineMs: number,
  attempt: () => Promise<T> | T,
  signal?: AbortSignal,
): Promise<T> {
  const end = performance.now() + deadlineMs;
  for (;;) {
    try {
      return await attempt();
    } catch (cause) {
      signal?.throwIfAborted();
      if (performance.now() >= end) {
        const last = cause instanceof Error ? cause.message : String(cause);
        throw new Error(`${what}: not within ${deadlineMs} ms; last: ${last}`, { cause });
      }
    }
    await sleep(50);
  }
}
