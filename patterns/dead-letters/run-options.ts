import { checkInteger, checkOptions } from "../../core/checks.ts";
import { MessagingError } from "../../core/errors.ts";
import type { Journal } from "./journal.ts";

/** Sends few messages first and increases step by step. */
export interface Ramp {
  /** The size of the first step. Default 1. */
  readonly first?: number;
  /** The growth factor of the steps: 1, 10, 100 … Default 10. */
  readonly factor?: number;
  /**
   * How long to watch for messages that come back after each step, in milliseconds. Make it longer than all retries of the
   * consumer together. It starts when what was sent is handled, as far as the broker reports that. Default 30,000.
   */
  readonly observeMs?: number;
  /**
   * How long to wait after each step until what was sent is handled, in milliseconds. Then the run stops with `unhandled`.
   * Default 600,000.
   */
  readonly backlogMs?: number;
  /** How many messages may come back. With one more the run stops, also within a step if it notices that. Default 0. */
  readonly tolerate?: number;
}

/** The progress of a run. */
export interface Progress {
  readonly run: string;
  readonly action: "replay" | "discard";
  /** The number of entries in the plan. */
  readonly selected: number;
  /** How many were sent or archived, and removed. */
  readonly done: number;
  /** How many failed. They stay. */
  readonly failed: number;
  /** How many the edit left as they were. */
  readonly left: number;
  /** How many messages that this run sent were dead-lettered again. */
  readonly cameBack: number;
  /** The step of the ramp, from 1. */
  readonly step: number;
  /**
   * What a ramp waits for. `backlog`: that what it sent is handled. `returns`: that messages come back. Null while it sends.
   */
  readonly waitsFor: "backlog" | "returns" | null;
}

/** The pace of a run. The plan stores it. */
export interface PaceOptions {
  /** The most messages per second. Default: no limit. */
  readonly rate?: number;
  /** Sends few messages first, and more if they do not come back. `true` is the default ramp. Default: all at once. */
  readonly ramp?: boolean | Ramp;
}

/** The pace in a plan. Plain JSON. */
export interface Pace {
  /** The most messages per second; null for no limit. */
  readonly rate: number | null;
  /** Null for all at once. */
  readonly ramp: Required<Ramp> | null;
}

/** The options of a run. */
export interface RunOptions {
  /** Cancels the run. Messages in progress are finished. */
  readonly signal?: AbortSignal;
  /** Records what becomes of each message; see {@link Journal}. Default: no journal. */
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

/** Checks a pace, and fills it in from the stored one. Throws `invalid`. */
export function paceOf(where: string, { rate, ramp }: PaceOptions, kept: Pace = { rate: null, ramp: null }): Pace {
  if (rate !== undefined && !isRate(rate)) {
    throw new MessagingError("invalid", `${where} { rate } takes a number of messages per second, above 0`);
  }
  return {
    rate: rate ?? kept.rate,
    ramp: ramp === undefined ? kept.ramp : rampOf(where, ramp, kept.ramp ?? DEFAULT_RAMP),
  };
}

function isRate(rate: unknown): boolean {
  return typeof rate === "number" && rate > 0 && Number.isFinite(rate);
}

/** Options that are not given keep their stored values. */
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

/** Whether a stored pace is valid. */
export function isPace({ rate, ramp }: { readonly rate?: unknown; readonly ramp?: unknown }): boolean {
  try {
    return (rate === null || isRate(rate)) && (ramp === null || rampOf("plan", ramp as Ramp, DEFAULT_RAMP) !== null);
  } catch {
    return false;
  }
}
