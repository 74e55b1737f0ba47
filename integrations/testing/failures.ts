import { type Address, describeAddress } from "../../core/address.ts";
import { checkInteger, checkName, checkOptions } from "../../core/checks.ts";
import type { Queue, Topic } from "../../core/destination.ts";
import { MessagingError, type MessagingErrorCode } from "../../core/errors.ts";

/** Codes that a send can fail with. */
export type SendFailureCode = Exclude<MessagingErrorCode, "partly-failed" | "start-failed">;

/** What {@link TestKit.failNext} makes of sends. */
export interface SendFailure {
  /** The destination whose next message fails. What the engine itself sends on (retries, dead letters) does not. */
  readonly sending: Queue<never, unknown> | Topic<never, unknown>;
  /** What the caller gets: an error, or its code alone. Default `refused`. */
  readonly with?: MessagingError | SendFailureCode;
  /** Whether the message is stored all the same, as it may be with `unconfirmed`. Default false. */
  readonly stored?: boolean;
  /** How many messages fail. Default 1. */
  readonly times?: number;
}

/** What {@link TestKit.failNext} makes of attempts to handle. */
export interface HandlingFailure {
  /** The queue or topic whose next attempt fails. */
  readonly handling: Queue<never, unknown> | Topic<never, unknown>;
  /** The subscription of the topic. Default: whichever is next. */
  readonly subscription?: string;
  /** What is thrown; an outcome of `retry()`, `postpone()` or `deadLetter()` is returned. Default: an error that says so. */
  readonly with?: unknown;
  /**
   * Whether it fails in place of the handler, or after the handler has succeeded, as if the process could not tell its
   * broker. Default `before`.
   */
  readonly when?: "before" | "after";
  /** How many attempts fail. Default 1. */
  readonly times?: number;
}

/** A failure that was asked for; made by {@link TestKit.failNext}. */
export interface PlannedFailure {
  /** How many are still to come. */
  readonly left: number;
  /** Lets those still to come not come. */
  cancel(): void;
}

/** A planned failure and how often it is still to come. */
class Plan<Options> implements PlannedFailure {
  readonly options: Options;
  #left: number;

  constructor(options: Options, times: number) {
    this.options = options;
    this.#left = times;
  }

  get left(): number {
    return this.#left;
  }

  cancel(): void {
    this.#left = 0;
  }

  take(): Options {
    this.#left--;
    return this.options;
  }
}

/** The failures that were asked for, in the order in which they were. */
export class Failures {
  readonly #sends: Plan<SendFailure>[] = [];
  readonly #handlings: Plan<HandlingFailure>[] = [];

  /** Throws `invalid` for what makes no sense. */
  plan(options: SendFailure | HandlingFailure): PlannedFailure {
    const where = "failNext";
    const { times = 1 } = options;
    checkInteger(`${where} { times }`, times, 1);
    if ("sending" in options) {
      checkOptions(where, options, ["sending", "with", "stored", "times"]);
      checkDestination(`${where} { sending }`, options.sending);
      return planned(this.#sends, options, times);
    }
    checkOptions(where, options, ["handling", "subscription", "with", "when", "times"]);
    checkDestination(`${where} { handling }`, options.handling);
    if (options.subscription !== undefined) checkName("subscription", options.subscription);
    if (options.when !== undefined && options.when !== "before" && options.when !== "after") {
      throw new MessagingError("invalid", `${where} { when } takes "before" or "after"`);
    }
    return planned(this.#handlings, options, times);
  }

  /** The failure that the next message to an address meets, if it meets one. */
  ofSend(to: Address): SendFailure | undefined {
    if (to.kind !== "queue" && to.kind !== "topic") return undefined;
    return next(this.#sends, ({ sending }) => sending.kind === to.kind && sending.name === to.name);
  }

  /** The failure that the next attempt on a destination meets, if it meets one. */
  ofHandling(destination: string, subscription: string | undefined): HandlingFailure | undefined {
    const kind = subscription === undefined ? "queue" : "topic";
    return next(this.#handlings, ({ handling, subscription: wanted }) => {
      return handling.kind === kind && handling.name === destination && (wanted ?? subscription) === subscription;
    });
  }

  clear(): void {
    for (const plan of [...this.#sends.splice(0), ...this.#handlings.splice(0)]) plan.cancel();
  }
}

/** The error that a caller gets. */
export function errorOf({ with: chosen = "refused" }: SendFailure, to: Address): MessagingError {
  if (typeof chosen !== "string") return chosen;
  return new MessagingError(chosen, `the message to ${describeAddress(to)} failed because failNext() asked for it`);
}

function planned<Options>(plans: Plan<Options>[], options: Options, times: number): PlannedFailure {
  const plan = new Plan(options, times);
  plans.push(plan);
  return plan;
}

function next<Options>(plans: Plan<Options>[], fits: (options: Options) => boolean): Options | undefined {
  return plans.find((plan) => plan.left > 0 && fits(plan.options))?.take();
}

function checkDestination(where: string, destination: { readonly kind: string } | undefined): void {
  if (destination?.kind === "queue" || destination?.kind === "topic") return;
  throw new MessagingError("invalid", `${where} takes a queue or a topic, made by queue() or topic()`);
}
