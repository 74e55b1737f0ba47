import type { CaseContext } from "./context.ts";

/** One guarantee of the library, tested on one adapter. */
export interface ConformanceCase {
  /** As in the list of cases: `16`. Parts of a case have letters: `10a`. */
  readonly number: string;
  readonly title: string;
  /** The most that the case may take, in milliseconds. Default 600,000. */
  readonly timeoutMs?: number;
  /** Whether the whole case needs topics. */
  readonly needsTopics?: boolean;
  /** Whether no other case may run meanwhile: it restarts the broker, or lists everything on it. */
  readonly alone?: boolean;
  /** Throws if the guarantee is broken. Reports `refused`, `notApplicable` and `notRun` through the context. */
  run(context: CaseContext): Promise<void>;
}
