import { checkInteger, checkOptions } from "../../core/checks.ts";
import { MessagingError } from "../../core/errors.ts";
import type { Journal } from "./journal.ts";

/** How a replay goes up from few to many. */
export interface Ramp {
  /** How many are sent back first. Default 1. */
  readonly first?: number;
  /** What each step is multiplied by for the next: 1, 10, 100 … Default 10. */
  readonly factor?: number;
  /**
   * How long to watch, after each step, whether what was sent back comes to the dead letters again, in milliseconds: longer
   * than the consumer's retries take in all. It begins when what was sent is handled, as far as the broker tells. Default
   * 30,000.
   */
  readonly observeMs?: number;
  /**
   * How long to wait, after each step, until what was sent is handled behind what waited before it, in milliseconds; then
   * the run stops with `unhandled`. Default 600,000.
   */
  readonly backlogMs?: number;
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
  /**
   * What a ramp waits for: `backlog`, until what it sent is handled behind what waited before; `returns`, whether it comes
   * back. Null while it sends.
   */
  readonly waitsFor: "backlog" | "returns" | null;
}

/** How fast a plan is carried out. It belongs to the plan, and is kept with it. */
export interface PaceOptions {
  /** How many are begun per second, at most. Default: as many as the broker takes. */
  readonly rate?: number;
  /** Send back few first, and more when they do not come back. `true` is the default ramp. Default: all at once. */
  readonly ramp?: boolean | Ramp;
}

/** How fast a plan is carried out, as the plan has it: plain JSON. */
export interface Pace {
  /** How many are begun per second, at most; null for as many as the broker takes. */
  readonly rate: number | null;
  /** Null for all at once. */
  readonly ramp: Required<Ramp> | null;
}

/** The options of a run. */
export interface RunOptions {
  /** Ends the run when what is under way is finished. */
  readonly signal?: AbortSignal;
  /** Told what becomes of each message; see {@link Journal}. Default: nothing is written. */
  readonly journal?: Journal;
  /** Called after each removal. What it throws is ignored. */
  readonly onProgress?: (progress: Progress) => void;
}

const DEFAULT_RAMP: Required<Ramp> = Object.freeze({
  first: 1,
  factor: 10,
  observeMs: 30_000,
  backlogMs: 600_000,
  tolerate: 0,
});

/** Throws `invalid` for wrong options. */
export function checkRunOptions(where: string, options: RunOptions): void {
  checkOptions(where, options, ["signal", "journal", "onProgress"]);
  const { signal, journal, onProgress } = options;
  if (journal !== undefined && typeof journal?.append !== "function") {
    throw new MessagingError(
      "invalid",
      `${where} { journal } takes a journal, such as fileJournal("orders.journal.jsonl")`,
    );
  }
  if (signal !== undefined && !(signal instanceof AbortSignal)) {
    throw new MessagingError("invalid", `${where} { signal } takes an AbortSignal`);
  }
  if (onProgress !== undefined && typeof onProgress !== "function") {
    throw new MessagingError("invalid", `${where} { onProgress } takes a function`);
  }
}

/** The pace asked for, with its defaults, over the one that is left where nothing is said. Throws `invalid` for wrong options. */
export function paceOf(where: string, { rate, ramp }: PaceOptions, kept: Pace = { rate: null, ramp: null }): Pace {
  if (rate !== undefined && !isRate(rate)) {
    throw new MessagingError("invalid", `${where} { rate } takes a number above 0, of messages per second`);
  }
  return {
    rate: rate ?? kept.rate,
    ramp: ramp === undefined ? kept.ramp : rampOf(where, ramp, kept.ramp ?? DEFAULT_RAMP),
  };
}

function isRate(rate: unknown): boolean {
  return typeof rate === "number" && rate > 0 && Number.isFinite(rate);
}

/** What is not said of a ramp is as it was. */
function rampOf(where: string, ramp: boolean | Ramp, kept: Required<Ramp>): Required<Ramp> | null {
  if (ramp === false) return null;
  if (ramp === true) return kept;
  checkOptions(`${where} { ramp }`, ramp, Object.keys(DEFAULT_RAMP));
  const { first, factor, observeMs, backlogMs, tolerate } = { ...kept, ...ramp };
  checkInteger(`${where} { ramp.first }`, first, 1);
  checkInteger(`${where} { ramp.factor }`, factor, 2);
  checkInteger(`${where} { ramp.observeMs }`, observeMs, 1);
  checkInteger(`${where} { ramp.backlogMs }`, backlogMs, 1);
  checkInteger(`${where} { ramp.tolerate }`, tolerate, 0);
  return { first, factor, observeMs, backlogMs, tolerate };
}

/** Whether a plan that was kept has a pace that can be used. */
export function isPace({ rate, ramp }: { readonly rate?: unknown; readonly ramp?: unknown }): boolean {
  try {
    return (rate === null || isRate(rate)) && (ramp === null || rampOf("plan", ramp as Ramp, DEFAULT_RAMP) !== null);
  } catch {
    return false;
  }
}
