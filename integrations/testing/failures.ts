import { type Address, describeAddress } from "../../core/address.ts";
import { checkInteger, checkName, checkOptions } from "../../core/checks.ts";
import type { Queue, Topic } from "../../core/destination.ts";
import { MessagingError, type MessagingErrorCode } from "../../core/errors.ts";

/** The codes that a send can fail with. */
export type SendFailureCode = Exclude<MessagingErrorCode, "partly-failed" | "start-failed">;

/** A failure of sends, for {@link TestKit.failNext}. */
export interface SendFailure {
  /** The destination whose next send fails. Copies by the engine (retries, dead letters) do not fail. */
  readonly sending: Queue<never, unknown> | Topic<never, unknown>;
  /** The error for the caller, or its code. Default `refused`. */
  readonly with?: MessagingError | SendFailureCode;
  /** Whether the message is stored anyway, as it may be with `unconfirmed`. Default false. */
  readonly stored?: boolean;
  /** The number of sends that fail. Default 1. */
  readonly times?: number;
}

/** A failure of handlers, for {@link TestKit.failNext}. */
export interface HandlingFailure {
  /** The queue or topic whose next attempt fails. */
  readonly handling: Queue<never, unknown> | Topic<never, unknown>;
  /** The subscription of the topic. Default: any. */
  readonly subscription?: string;
  /** What is thrown. An outcome (`retry()`, `postpone()`, `deadLetter()`) is returned instead. Default: an error. */
  readonly with?: unknown;
  /**
   * `before`: it fails in place of the handler. `after`: it fails after the handler succeeded, like a crash before the ack.
   * Default `before`.
   */
  readonly when?: "before" | "after";
  /** The number of attempts that fail. Default 1. */
  readonly times?: number;
}

/** A planned failure; made by {@link TestKit.failNext}. */
export interface PlannedFailure {
  /** How many failures are left. */
  readonly left: number;
  /** Cancels the failures that are left. */
  cancel(): void;
}

/** A planned failure with a counter. */
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

/** The planned failures in call order. */
export class Failures {
  readonly #sends: Plan<SendFailure>[] = [];
  readonly #handlings: Plan<HandlingFailure>[] = [];

  /** Throws `invalid` for wrong options. */
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

  /** Takes the failure for the next send to an address, if any. */
  ofSend(to: Address): SendFailure | undefined {
    if (to.kind !== "queue" && to.kind !== "topic") return undefined;
    return next(this.#sends, ({ sending }) => sending.kind === to.kind && sending.name === to.name);
  }

  /** Takes the failure for the next attempt on a destination, if any. */
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

/** The error for the caller. */
export function errorOf({ with: chosen = "refused" }: SendFailure, to: Address): MessagingError {
  if (typeof chosen !== "string") return chosen;
  return new MessagingError(chosen, `the send to ${describeAddress(to)} failed because of failNext()`);
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
