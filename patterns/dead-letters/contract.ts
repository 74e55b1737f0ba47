import type { Destination } from "../../core/destination.ts";
import type { Edit } from "./actions.ts";
import type { Archive } from "./archive.ts";
import type { DeadLetterEntry } from "./entry.ts";
import type { DeadLetterFilter } from "./filter.ts";
import type { DeadLetterGroup } from "./groups.ts";
import type { JsonPatch } from "./json-patch.ts";
import type { Plan } from "./plan.ts";
import type { PaceOptions, RunOptions } from "./run-options.ts";
import type { Audit, RunResult } from "./run-result.ts";
import type { DeadLetterScan } from "./scan.ts";

/** The options of {@link deadLetters}. */
export interface DeadLettersOptions {
  /** Who works on them, for the audit. */
  readonly by?: string;
  /** Written to before anything is touched and when it ended. Default: only the broker object's `onEvent` is told. */
  readonly audit?: Audit;
  /** How long to wait for what others hold, such as another run, in milliseconds. Default 30,000. */
  readonly patienceMs?: number;
}

/** A filter, or its text, as in `reason = attempts and age > 1h`. */
export type FilterOrText = DeadLetterFilter | string;

/** The options of `entries`, and those that `list` and `groups` share with it. */
export interface ReadOptions {
  /** Default: all. */
  readonly filter?: FilterOrText;
  /** The most bytes of a body that are shown. Default 65,536. */
  readonly bodyBytes?: number;
  /** How long to wait for what others hold, such as a run, in milliseconds. Default: that of `deadLetters`. */
  readonly patienceMs?: number;
  /** Rejects with the signal's reason when it is aborted. */
  readonly signal?: AbortSignal;
}

/** The options of `list`. */
export interface ListOptions extends ReadOptions {
  /** The most entries on the page, 1,000 at most. Default 50. */
  readonly limit?: number;
  /** Where the page before ended: its `next`. */
  readonly cursor?: string;
}

/** The options of `groups`. */
export interface GroupOptions extends ReadOptions {
  /** The most groups that are told apart; what belongs to no such group is counted as `others`. Default 1,000. */
  readonly limit?: number;
}

/** A page of entries: those that failed first before the others, by their ids where the times are equal. */
export interface Page extends DeadLetterScan {
  readonly entries: readonly DeadLetterEntry[];
  /** The cursor of the next page; null on the last. */
  readonly next: string | null;
}

/** How many there are. */
export interface Count extends DeadLetterScan {
  readonly count: number;
}

/** Dead letters by how they failed, the largest group first. */
export interface Groups extends DeadLetterScan {
  readonly groups: readonly DeadLetterGroup[];
  /** How many belong to none of them; see {@link GroupOptions.limit}. */
  readonly others: number;
}

/** The options of `replay`. */
export interface ReplayOptions extends PaceOptions {
  /** The most entries that are sent back: those that failed first. Default: all that are selected. */
  readonly limit?: number;
  /** Another destination than the one they were dead-lettered from. A subscription's own is its address, and no event. */
  readonly to?: Destination;
  /** A message that was sent back so often is left alone. Default 3. */
  readonly maxReplays?: number;
  /**
   * Sends an edited copy of each under an id of its own in the message's place: by a JSON patch (RFC 6902), which the plan
   * keeps, and which is tried on each body when it is planned; or by a function.
   */
  readonly edit?: Edit | JsonPatch;
  /** Sends those back too that lost headers on their way to the dead letters (`Entry.cut`). Default false. */
  readonly incomplete?: boolean;
  /** Breaks the planning off; the run has a signal of its own. */
  readonly signal?: AbortSignal;
}

/** The options of `discard`. */
export interface DiscardOptions extends Pick<PaceOptions, "rate"> {
  readonly archive: Archive;
  /** The most entries that are discarded: those that failed first. Default: all that are selected. */
  readonly limit?: number;
  /** Breaks the planning off; the run has a signal of its own. */
  readonly signal?: AbortSignal;
}

/** What has to be given again to take a run up, because a plan cannot keep it; and what is to be otherwise from now on. */
export interface ResumeOptions extends PaceOptions {
  /** The function, for a replay that had one. */
  readonly edit?: Edit;
  /** For a discard. */
  readonly archive?: Archive;
}

/** A plan that was made, and nothing done yet. */
export interface PlannedRun {
  readonly plan: Plan;
  /**
   * Does it. Resolves when it ended, whatever the reason: `stopped` in the result says why it did not go through. May be
   * called again, for what is left; rejects with `conflict` while one is under way, with `closed` while the broker object is
   * not started, and as the audit does.
   */
  run(options?: RunOptions): Promise<RunResult>;
}

/** The options of `edit`. */
export interface EditOptions {
  /** Another destination than the one it was dead-lettered from. */
  readonly to?: Destination;
  /** Default 3. */
  readonly maxReplays?: number;
  /** As {@link ReplayOptions.incomplete}. Default false. */
  readonly incomplete?: boolean;
}

/** What became of one edited message. */
export interface Edited {
  /** The id of the copy. */
  readonly id: string;
  /** The id of the message that it is a copy of. */
  readonly editedFrom: string;
}

/**
 * The dead letters of one queue or subscription. Every method rejects with `closed` while the broker object is not started
 * and with `not-found` if there is no such destination; `invalid` is thrown for wrong options. All may be called at once,
 * by several processes. What is read is the state while it was read: others may add and remove meanwhile.
 *
 * Memory is bounded by what is asked for (a page, the groups) and about 100 bytes for each entry that a plan selects or, on
 * brokers that cannot be read otherwise, that is held.
 */
export interface DeadLetters {
  /** Whose they are: `orders`, `order.placed..billing`. */
  readonly source: string;
  /** A page of entries. Each page goes over all entries once; to go over all of them use {@link DeadLetters.entries}. */
  list(options?: ListOptions): Promise<Page>;
  /** Every entry, in no particular order, in one go. Where they are held for the scan, that ends with the iteration. */
  entries(options?: ReadOptions): AsyncIterable<DeadLetterEntry>;
  /** How many are selected. Without a filter the broker is asked, which is as exact as its own counting. */
  count(filter?: FilterOrText): Promise<Count>;
  /** What failed in the same way, counted. */
  groups(options?: GroupOptions): Promise<Groups>;
  /**
   * Plans to send dead letters back to where they came from: under their own ids, with attempts beginning anew and one more
   * replay counted. Nothing is sent before `run` is called. Each entry of the plan is sent at most once in a run, and
   * nothing else is; copies of one message are sent once and all removed. A crash may send one a second time, under the
   * same id, and loses none. Two runs never have one entry at a time.
   */
  replay(filter: FilterOrText, options?: ReplayOptions): Promise<PlannedRun>;
  /** Plans to remove dead letters that are kept in an archive first. Nothing is removed before `run` is called. */
  discard(filter: FilterOrText, options: DiscardOptions): Promise<PlannedRun>;
  /** Takes up a plan that was kept as JSON, for what is left of it. */
  resume(plan: Plan, options?: ResumeOptions): Promise<PlannedRun>;
  /**
   * Sends an edited copy of one entry, under an id of its own that the same edit always gets, and removes the entry. `id` is
   * the entry's or the message's. Rejects with `not-found` if there is no such entry, `conflict` if there are several, and
   * `invalid` or `too-large` if the new body cannot be sent; the entry then stands as before.
   */
  edit(id: string, edit: Edit | JsonPatch, options?: EditOptions): Promise<Edited>;
}
