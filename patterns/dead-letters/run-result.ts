import type { BrokerInternals } from "../../core/broker-internals.ts";
import type { MessagingError } from "../../core/errors.ts";
import type { BrokerEvent } from "../../core/events.ts";
import type { DeadLetter } from "./dead-letter.ts";
import type { Plan } from "./plan.ts";
import type { Progress } from "./run-options.ts";

const MOST_LISTED = 100;

/** Something that did not go through, and stands as before. */
export interface Failure {
  /** The id of the entry. */
  readonly id: string;
  readonly messageId: string;
  readonly error: MessagingError;
}

/**
 * Why a run ended before its plan was done:
 * - `cancelled`: its signal was aborted.
 * - `failed-again`: more of what it sent back came to the dead letters again than the ramp tolerates.
 * - `unhandled`: nobody handled what it sent within the ramp's `backlogMs`, or the broker does not tell that it was: to send
 *   more would be blind.
 * - `held`: what is left is in the hands of somebody else, such as another run.
 * - `error`: something that would have met every message; see {@link RunResult.error}.
 */
export type Stopped = "cancelled" | "failed-again" | "unhandled" | "held" | "error";

/**
 * Why an entry of a plan was not there any more:
 * - `handled`: an earlier part of this run sent it back or discarded it, as its journal says.
 * - `dead-again`: its message is among the dead letters under a new entry id: somebody sent it back, and it failed again.
 * - `removed`: somebody else sent it back, discarded or purged it.
 * - `unknown`: it is gone, or in the hands of others, which the broker does not tell.
 */
export type MissingReason = "handled" | "dead-again" | "removed" | "unknown";

/** An entry of a plan that was not there any more. */
export interface Missing {
  /** The id of the entry. */
  readonly id: string;
  readonly messageId: string;
  readonly why: MissingReason;
  /** For `dead-again`: the id of the entry that its message is now. */
  readonly now: string | null;
}

/** How a run ended. */
export interface RunResult extends Omit<Progress, "step" | "waitsFor"> {
  /** How many of the plan were not there any more, or did not come. */
  readonly missing: number;
  /** The same by why. */
  readonly missingWhy: Readonly<Record<MissingReason, number>>;
  /** The first 100 of them. */
  readonly missed: readonly Missing[];
  /**
   * After how many steps of a ramp it was not known whether consumers had handled what was sent, because the broker does not
   * tell what they hold: the ramp's `observeMs` was then all the time they had.
   */
  readonly unproven: number;
  /** The first 100 failures. */
  readonly failures: readonly Failure[];
  /** The first 100 edited copies: the id of the message, and that of its copy. */
  readonly edited: readonly { readonly from: string; readonly id: string }[];
  /** Undefined if the plan was done. */
  readonly stopped: Stopped | undefined;
  /** For `error`: what it was. */
  readonly error: MessagingError | undefined;
}

/** Counts what becomes of a plan. */
export class Tally {
  readonly #plan: Plan;
  readonly #failures: Failure[] = [];
  readonly #edited: { readonly from: string; readonly id: string }[] = [];
  readonly #cameBack = new Set<string>();
  readonly #seen = new Set<string>();
  done = 0;
  failed = 0;
  left = 0;
  readonly #missing: Record<MissingReason, number> = { handled: 0, "dead-again": 0, removed: 0, unknown: 0 };
  readonly #missed: Missing[] = [];
  unproven = 0;
  step = 0;
  waitsFor: Progress["waitsFor"] = null;
  stopped: Stopped | undefined;
  error: MessagingError | undefined;

  constructor(plan: Plan) {
    this.#plan = plan;
  }

  get cameBack(): number {
    return this.#cameBack.size;
  }

  /** Whether it was not seen before. Counts only what this part of the run sent. */
  sawAgain({ id }: DeadLetter, isOfThisPart: boolean): boolean {
    const seen = this.#seen.size;
    if (isOfThisPart) this.#cameBack.add(id);
    return this.#seen.add(id).size > seen;
  }

  failure({ id, message }: DeadLetter, error: MessagingError): void {
    this.failed++;
    if (this.#failures.length < MOST_LISTED) this.#failures.push({ id, messageId: message.id, error });
  }

  edit({ message }: DeadLetter, id: string): void {
    if (this.#edited.length < MOST_LISTED) this.#edited.push({ from: message.id, id });
  }

  miss(missing: Missing): void {
    this.#missing[missing.why]++;
    if (this.#missed.length < MOST_LISTED) this.#missed.push(missing);
  }

  /** The first reason counts. */
  stop(why: Stopped, error?: MessagingError): void {
    if (this.stopped !== undefined) return;
    this.stopped = why;
    this.error = error;
  }

  progress(): Progress {
    const { run, action, count } = this.#plan;
    const { done, failed, left, cameBack, step, waitsFor } = this;
    return { run, action, selected: count, done, failed, left, cameBack, step, waitsFor };
  }

  result(): RunResult {
    const { step: _, waitsFor: __, ...progress } = this.progress();
    const { unproven, stopped, error } = this;
    const missingWhy = { ...this.#missing };
    const missing = Object.values(missingWhy).reduce((sum, count) => sum + count, 0);
    const lists = { missed: this.#missed, failures: this.#failures, edited: this.#edited };
    return { ...progress, missing, missingWhy, ...lists, unproven, stopped, error };
  }
}

/** Who does what to which dead letters, and when. Never holds a body or a header. */
export type AuditEvent = Extract<BrokerEvent, { readonly type: "audit" }>;

/**
 * Writes audit events down. The first of a run is waited for before anything is touched: where it rejects nothing is done.
 */
export type Audit = (event: AuditEvent) => void | Promise<void>;

/** Tells what is done, to the broker object's `onEvent` and to the audit. */
export class Auditor {
  readonly #internals: BrokerInternals;
  readonly #by: string | undefined;
  readonly #audit: Audit | undefined;

  constructor(internals: BrokerInternals, by: string | undefined, audit: Audit | undefined) {
    this.#internals = internals;
    this.#by = by;
    this.#audit = audit;
  }

  /** Rejects as the audit does. */
  begun(plan: Plan, action: string): Promise<void> {
    return this.#tell({ ...this.#event(plan, action), phase: "begun", count: plan.count });
  }

  /** Rejects as the audit does. */
  ended(plan: Plan, action: string, { done, stopped }: RunResult): Promise<void> {
    const why = stopped === undefined ? {} : { stopped };
    return this.#tell({ ...this.#event(plan, action), phase: "ended", count: done, ...why });
  }

  #event({ run, source, filter }: Plan, action: string) {
    const at = new Date(this.#internals.clock.now()).toISOString();
    return { type: "audit", action, run, source, by: this.#by, at, filter } as const;
  }

  async #tell(event: AuditEvent): Promise<void> {
    this.#internals.emit(event);
    await this.#audit?.(event);
  }
}
