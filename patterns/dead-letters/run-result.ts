import type { BrokerInternals } from "../../core/broker-internals.ts";
import type { MessagingError } from "../../core/errors.ts";
import type { BrokerEvent } from "../../core/events.ts";
import type { DeadLetter } from "./dead-letter.ts";
import type { Plan } from "./plan.ts";
import type { Progress } from "./run-options.ts";

const MOST_LISTED = 100;

/** An entry that failed. It stays. */
export interface Failure {
  /** The id of the entry. */
  readonly id: string;
  readonly messageId: string;
  readonly error: MessagingError;
}

/**
 * Why a run ended before its plan was done:
 * - `cancelled`: its signal was aborted.
 * - `failed-again`: more messages came back than the ramp tolerates.
 * - `unhandled`: consumers did not handle what was sent within the ramp's `backlogMs`, or the broker did not report it.
 * - `held`: others hold what is left, such as another run.
 * - `error`: a failure that would hit every message; see {@link RunResult.error}.
 */
export type Stopped = "cancelled" | "failed-again" | "unhandled" | "held" | "error";

/**
 * Why an entry of a plan was not found:
 * - `handled`: an earlier part of this run sent or discarded it, according to its journal, or to what came back.
 * - `dead-again`: others replayed its message, and it was dead-lettered again, under a new entry id.
 * - `removed`: something else replayed, discarded or purged it, such as another run.
 * - `unknown`: it is gone, or others hold it; the broker does not report which.
 */
export type MissingReason = "handled" | "dead-again" | "removed" | "unknown";

/** An entry of a plan that was not found. */
export interface Missing {
  /** The id of the entry. */
  readonly id: string;
  readonly messageId: string;
  readonly why: MissingReason;
  /** The new entry id of its message, if that was dead-lettered again. */
  readonly now: string | null;
}

/** How a run ended. */
export interface RunResult extends Omit<Progress, "step" | "waitsFor"> {
  /** How many entries of the plan were not found, or did not arrive. */
  readonly missing: number;
  /** The same number by reason. */
  readonly missingWhy: Readonly<Record<MissingReason, number>>;
  /** The first 100 missing entries. */
  readonly missed: readonly Missing[];
  /**
   * How many steps of a ramp ended without proof that consumers handled what was sent, because the broker does not report
   * what they hold. In these steps consumers had only `observeMs`.
   */
  readonly unproven: number;
  /** The first 100 failures. */
  readonly failures: readonly Failure[];
  /** The first 100 edited copies: `from` is the id of the message, `id` that of its copy. */
  readonly edited: readonly { readonly from: string; readonly id: string }[];
  /** Undefined if the plan was done. */
  readonly stopped: Stopped | undefined;
  /** The error, if `stopped` is `error`. */
  readonly error: MessagingError | undefined;
}

/** Counts the results of a run. */
export class Tally {
  readonly #plan: Plan;
  readonly #failures: Failure[] = [];
  readonly #edited: { readonly from: string; readonly id: string }[] = [];
  readonly #cameBack = new Set<string>();
  readonly #returned = new Set<string>();
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

  /** Counts a message that came back; `ofThisPart` if this part of the run sent it. Returns whether it is new. */
  addReturn({ id }: DeadLetter, ofThisPart: boolean): boolean {
    const before = this.#returned.size;
    if (ofThisPart) this.#cameBack.add(id);
    return this.#returned.add(id).size > before;
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

  /** The first reason stays. */
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

/** Who did what with which dead letters, and when. Without bodies and headers. */
export type AuditEvent = Extract<BrokerEvent, { readonly type: "audit" }>;

/**
 * Records audit events. A run waits for the first call before it changes anything, and does not start if it rejects.
 */
export type Audit = (event: AuditEvent) => void | Promise<void>;

/** Reports to the broker object's `onEvent` and to the audit. */
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
    return this.#report({ ...this.#event(plan, action), phase: "begun", count: plan.count });
  }

  /** Rejects as the audit does. */
  ended(plan: Plan, action: string, { done, stopped }: RunResult): Promise<void> {
    const why = stopped === undefined ? {} : { stopped };
    return this.#report({ ...this.#event(plan, action), phase: "ended", count: done, ...why });
  }

  #event({ run, source, filter }: Plan, action: string) {
    const at = new Date(this.#internals.clock.now()).toISOString();
    return { type: "audit", action, run, source, by: this.#by, at, filter } as const;
  }

  async #report(event: AuditEvent): Promise<void> {
    this.#internals.emit(event);
    await this.#audit?.(event);
  }
}
