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
  /** Who works on them; written to the audit and the journal. */
  readonly by?: string;
  /** Called before anything is changed, and at the end. Default: only the broker object's `onEvent` gets the events. */
  readonly audit?: Audit;
  /** How long to wait for dead letters that others hold, such as another run, in milliseconds. Default 30,000. */
  readonly patienceMs?: number;
}

/** A filter, or its text: `reason = attempts and age > 1h`. */
export type FilterOrText = DeadLetterFilter | string;

/** The options of `entries`. `list` and `groups` have them too. */
export interface ReadOptions {
  /** Default: every entry. */
  readonly filter?: FilterOrText;
  /** The most bytes of a body in an entry. Default 65,536. */
  readonly bodyBytes?: number;
  /** How long to wait for dead letters that others hold, in milliseconds. Default: that of {@link deadLetters}. */
  readonly patienceMs?: number;
  /** Rejects with the signal's reason when it is aborted. */
  readonly signal?: AbortSignal;
}

/** The options of `list`. */
export interface ListOptions extends ReadOptions {
  /** The most entries of the page, at most 1,000. Default 50. */
  readonly limit?: number;
  /** The `next` of the page before. */
  readonly cursor?: string;
}

/** The options of `groups`. */
export interface GroupOptions extends ReadOptions {
  /** The most groups. Entries of further groups are counted in `others`. Default 1,000. */
  readonly limit?: number;
}

/** A page of entries, ordered by the time of their last failure, then by id. */
export interface Page extends DeadLetterScan {
  readonly entries: readonly DeadLetterEntry[];
  /** The cursor of the next page; null on the last. */
  readonly next: string | null;
}

/** A number of entries. */
export interface Count extends DeadLetterScan {
  readonly count: number;
}

/** Dead letters grouped by failure, the largest group first. */
export interface Groups extends DeadLetterScan {
  readonly groups: readonly DeadLetterGroup[];
  /** Entries of further groups; see {@link GroupOptions.limit}. */
  readonly others: number;
}

/** The options of `replay`. */
export interface ReplayOptions extends PaceOptions {
  /** The most entries to send back, the oldest failures first. Default: all that are selected. */
  readonly limit?: number;
  /**
   * Another destination than the one they were dead-lettered from. A dead letter of a subscription goes to that
   * subscription by default, not to the topic.
   */
  readonly to?: Destination;
  /** A message that was replayed this often is refused. Default 3. */
  readonly maxReplays?: number;
  /**
   * Sends an edited copy of each message, under a new id. Either a JSON patch (RFC 6902), which the plan stores and tries
   * on each body; or a function.
   */
  readonly edit?: Edit | JsonPatch;
  /** Whether to send messages that lost headers too (`DeadLetterEntry.cut`). Default false. */
  readonly incomplete?: boolean;
  /** Cancels the planning. For the run, see {@link RunOptions.signal}. */
  readonly signal?: AbortSignal;
}

/** The options of `discard`. */
export interface DiscardOptions extends Pick<PaceOptions, "rate"> {
  readonly archive: Archive;
  /** The most entries to discard, the oldest failures first. Default: all that are selected. */
  readonly limit?: number;
  /** Cancels the planning. For the run, see {@link RunOptions.signal}. */
  readonly signal?: AbortSignal;
}

/** The options of `resume`: what a plan cannot store, and changes of its pace. */
export interface ResumeOptions extends PaceOptions {
  /** Required for a replay that edits by a function. */
  readonly edit?: Edit;
  /** Required for a discard. */
  readonly archive?: Archive;
}

/** A plan that can be run. Nothing is done yet. */
export interface PlannedRun {
  readonly plan: Plan;
  /**
   * Executes the plan. Resolves at its end; `stopped` says why a run ended early. A second call does what is left. Rejects
   * with `conflict` while a run is in progress, with `closed` while the broker object is not started, and if the audit or
   * the first write of the journal rejects.
   */
  run(options?: RunOptions): Promise<RunResult>;
}

/** The options of `edit`. */
export interface EditOptions {
  /** Another destination than the one it was dead-lettered from. */
  readonly to?: Destination;
  /** The most replays; see {@link ReplayOptions.maxReplays}. Default 3. */
  readonly maxReplays?: number;
  /** See {@link ReplayOptions.incomplete}. Default false. */
  readonly incomplete?: boolean;
}

/** An edited message. */
export interface Edited {
  /** The id of the copy. */
  readonly id: string;
  /** The id of the original message. */
  readonly editedFrom: string;
}

/**
 * The dead letters of one queue or subscription. Every method rejects with `closed` while the broker object is not started,
 * with `not-found` if the destination does not exist, and with `invalid` for wrong options. Methods may be called
 * concurrently, also by several processes. A read may miss concurrent changes.
 *
 * Memory is bounded by the page or the groups, plus about 100 bytes per entry of a plan, and per held entry on brokers
 * that cannot browse.
 */
export interface DeadLetters {
  /** The queue or subscription: `orders`, `order.placed..billing`. */
  readonly source: string;
  /** Returns a page of entries. Each page reads all entries once; to read all, use {@link DeadLetters.entries}. */
  list(options?: ListOptions): Promise<Page>;
  /** Yields every entry once, unordered. On brokers that cannot browse, entries are held until the iteration ends. */
  entries(options?: ReadOptions): AsyncIterable<DeadLetterEntry>;
  /** Counts the selected entries. Without a filter, this is the broker's own count. */
  count(filter?: FilterOrText): Promise<Count>;
  /** Groups entries by failure. */
  groups(options?: GroupOptions): Promise<Groups>;
  /**
   * Plans to send dead letters back to their destination, under their own ids, with new attempts and one more replay
   * counted. Nothing is sent before `run` is called.
   *
   * A run sends each entry of its plan at most once, and nothing else. Copies of one message are sent once, and all are
   * removed. A crash may cause a duplicate under the same id, but no loss. Two runs never hold the same entry.
   */
  replay(filter: FilterOrText, options?: ReplayOptions): Promise<PlannedRun>;
  /** Plans to archive and then remove dead letters. Nothing is removed before `run` is called. */
  discard(filter: FilterOrText, options: DiscardOptions): Promise<PlannedRun>;
  /** Resumes a stored plan with the entries that are left. */
  resume(plan: Plan, options?: ResumeOptions): Promise<PlannedRun>;
  /**
   * Sends an edited copy of one entry and removes the entry. The same edit of an entry always gets the same new id. `id` is
   * the id of the entry or of the message. Rejects with `not-found` if there is no such entry, with `conflict` if there are
   * several, and with `invalid` or `too-large` if the new body cannot be sent; the entry then stays.
   */
  edit(id: string, edit: Edit | JsonPatch, options?: EditOptions): Promise<Edited>;
}
