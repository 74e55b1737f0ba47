import { MessagingError } from "../../core/errors.ts";
import { checkInteger, checkOptions } from "../../core/names.ts";

/** How a replay goes up from few to many. */
export interface Ramp {
  /** How many are sent back first. Default 1. */
  readonly first?: number;
  /** What each step is multiplied by for the next: 1, 10, 100 … Default 10. */
  readonly factor?: number;
  /**
   * How long to watch, after each step but the last, whether what was sent back comes to the dead letters again, in
   * milliseconds: longer than the consumer's retries take in all. Default 30,000.
   */
  readonly observeMs?: number;
  /** How many may come back before the run stops, also in the midst of a step where that is seen. Default 0. */
  readonly tolerate?: number;
}

/** Where a run stands. */
export interface Progress {
  readonly run: string;
  readonly action: "replay" | "discard";
  /** How many the plan has. */
  readonly selected: number;
  /** How many were sent back, or archived, and removed. */
  readonly done: number;
  /** How many failed, and stand as before. */
  readonly failed: number;
  /** How many the edit left as they were. */
  readonly left: number;
  /** How many of those that this run sent back were seen in the dead letters again. */
  readonly cameBack: number;
  /** The step of the ramp, from 1 up. */
  readonly step: number;
}

/** The options of a run. */
export interface RunOptions {
  /** How many are begun per second, at most. Default: as many as the broker takes. */
  readonly rate?: number;
  /** Send back few first, and more when they do not come back. `true` is the default ramp. Default: all at once. */
  readonly ramp?: boolean | Ramp;
  /** Ends the run when what is under way is finished. */
  readonly signal?: AbortSignal;
  /** Called after each removal. What it throws is ignored. */
  readonly onProgress?: (progress: Progress) => void;
}

const DEFAULT_RAMP: Required<Ramp> = { first: 1, factor: 10, observeMs: 30_000, tolerate: 0 };

/** The ramp asked for, with its defaults; undefined for none. Throws `invalid` for wrong options. */
export function checkRunOptions(where: string, options: RunOptions): Required<Ramp> | undefined {
  checkOptions(where, options, ["rate", "ramp", "signal", "onProgress"]);
  const { rate, ramp = false, signal, onProgress } = options;
  if (rate !== undefined && !(typeof rate === "number" && rate > 0 && Number.isFinite(rate))) {
    throw new MessagingError("invalid", `${where} { rate } takes a number above 0, of messages per second`);
  }
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw new MessagingError("invalid", `${where} { signal } takes an AbortSignal`);
  }
  if (onProgress !== undefined && typeof onProgress !== "function") {
    throw new MessagingError("invalid", `${where} { onProgress } takes a function`);
  }
  if (ramp === false) return undefined;
  if (ramp === true) return DEFAULT_RAMP;
  checkOptions(`${where} { ramp }`, ramp, ["first", "factor", "observeMs", "tolerate"]);
  const { first, factor, observeMs, tolerate } = { ...DEFAULT_RAMP, ...ramp };
  checkInteger(`${where} { ramp.first }`, first, 1);
  checkInteger(`${where} { ramp.factor }`, factor, 2);
  checkInteger(`${where} { ramp.observeMs }`, observeMs, 1);
  checkInteger(`${where} { ramp.tolerate }`, tolerate, 0);
  return { first, factor, observeMs, tolerate };
}
