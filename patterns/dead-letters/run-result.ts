import type { MessagingError } from "../../core/errors.ts";
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
 * - `held`: what is left is in the hands of somebody else, such as another run.
 * - `error`: something that would have met every message; see {@link RunResult.error}.
 */
export type Stopped = "cancelled" | "failed-again" | "held" | "error";

/** How a run ended. */
export interface RunResult extends Omit<Progress, "step"> {
  /**
   * How many of the plan were not there any more, or did not come: removed before, by an earlier part of this run too, or
   * in the hands of somebody else where the broker does not tell.
   */
  readonly missing: number;
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
  done = 0;
  failed = 0;
  left = 0;
  missing = 0;
  step = 0;
  stopped: Stopped | undefined;
  error: MessagingError | undefined;

  constructor(plan: Plan) {
    this.#plan = plan;
  }

  get cameBack(): number {
    return this.#cameBack.size;
  }

  sawAgain({ id }: DeadLetter): void {
    this.#cameBack.add(id);
  }

  failure({ id, message }: DeadLetter, error: MessagingError): void {
    this.failed++;
    if (this.#failures.length < MOST_LISTED) this.#failures.push({ id, messageId: message.id, error });
  }

  edit({ message }: DeadLetter, id: string): void {
    if (this.#edited.length < MOST_LISTED) this.#edited.push({ from: message.id, id });
  }

  /** The first reason counts. */
  stop(why: Stopped, error?: MessagingError): void {
    if (this.stopped !== undefined) return;
    this.stopped = why;
    this.error = error;
  }

  progress(): Progress {
    const { run, action, count } = this.#plan;
    const { done, failed, left, cameBack, step } = this;
    return { run, action, selected: count, done, failed, left, cameBack, step };
  }

  result(): RunResult {
    const { step: _, ...progress } = this.progress();
    const { missing, stopped, error } = this;
    return { ...progress, missing, failures: this.#failures, edited: this.#edited, stopped, error };
  }
}
