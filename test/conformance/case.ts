import type { CaseContext } from "./context.ts";

/** A promise of the library, put to the test on one adapter. */
export interface ConformanceCase {
  /** As in the list of cases: `16`; parts of one case that end on their own have letters: `10a`. */
  readonly number: string;
  readonly title: string;
  /** How long all of it may take, in milliseconds. Default 300,000. */
  readonly timeoutMs?: number;
  /** Whether it is about topics from beginning to end, so that nothing can be tried where there are none. */
  readonly needsTopics?: boolean;
  /** Whether it needs the broker for itself: it restarts it, or looks at everything that exists on it. */
  readonly alone?: boolean;
  /** Throws if the promise is not kept. Says through the context if it could not be tried or was refused as declared. */
  run(context: CaseContext): Promise<void>;
}

/**
 * - `passed`: the promise was tried and kept.
 * - `refused`: the adapter declares that it cannot do it, and was seen to refuse it by name.
 * - `failed`: the promise was broken.
 * - `not-applicable`: the harness names why it cannot be tried there, such as what an emulator lacks.
 * - `not-run`: the harness has no means to try it. This is a hole in the proof, not a pass.
 */
export type CaseResult = "passed" | "refused" | "failed" | "not-applicable" | "not-run";

/** How a case ended on an adapter. */
export interface CaseReport {
  readonly adapter: string;
  readonly case: string;
  readonly title: string;
  readonly result: CaseResult;
  /** Why it was refused, not applicable or not run, or under which conditions it passed. */
  readonly note?: string;
}
