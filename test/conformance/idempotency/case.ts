import type { StoreContext } from "./context.ts";

/** A promise of `IdempotencyStore`, put to the test on one store. */
export interface StoreCase {
  /** As in the list of cases: `I3`. */
  readonly number: string;
  readonly title: string;
  /** Throws if the promise is not kept. */
  run(context: StoreContext): Promise<void>;
}
