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
