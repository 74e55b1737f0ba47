import type { Delivery } from "./delivery.ts";

/** What is kept of the time that is left, to say what became of a message before the engine says that it took too long. */
const KEPT = 1 / 5;
const MOST_KEPT_MS = 500;

/** For how long, in milliseconds, a store may be asked or waited for: until shortly before the handler's time is over. */
export function spareMs({ remainingMs }: Delivery): number {
  return Math.floor(remainingMs - Math.min(remainingMs * KEPT, MOST_KEPT_MS));
}
