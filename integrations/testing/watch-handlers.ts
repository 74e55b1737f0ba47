import { addressName, workAddress } from "../../core/address.ts";
import { type Delivery, type HandlerResult, type Middleware, outcomeKind } from "../../core/delivery.ts";
import type { Failures } from "./failures.ts";

/** A running handler. */
interface RunningHandler {
  readonly source: string;
  readonly id: string;
  readonly attempt: number;
}

/** The arguments of a handler that succeeded. */
export interface Success {
  readonly body: unknown;
  readonly delivery: Delivery;
}

/** Observes handlers: which run, and which succeeded; and injects failures. */
export class HandlerWatch {
  readonly #failures: Failures;
  readonly #running = new Set<RunningHandler>();
  /** By source and id, until settled. */
  readonly #successes = new Map<string, Success>();

  constructor(failures: Failures) {
    this.#failures = failures;
  }

  get running(): readonly RunningHandler[] {
    return [...this.#running];
  }

  readonly middleware: Middleware =
    (next) =>
    async (body, delivery): Promise<HandlerResult> => {
      const { destination, subscription, id, attempt } = delivery;
      const source = addressName(workAddress(destination, subscription));
      const running = { source, id, attempt };
      const failure = this.#failures.ofHandling(destination, subscription);
      this.#running.add(running);
      try {
        if (failure !== undefined && failure.when !== "after") return fail(failure.with);
        const result = await next(body, delivery);
        if (outcomeKind(result) !== undefined) return result;
        if (failure !== undefined) return fail(failure.with);
        this.#successes.set(`${source} ${id}`, { body, delivery });
        return result;
      } finally {
        this.#running.delete(running);
      }
    };

  /** Removes and returns the success of a delivery that is settled. */
  take(source: string, id: string): Success | undefined {
    const key = `${source} ${id}`;
    const success = this.#successes.get(key);
    this.#successes.delete(key);
    return success;
  }
}

function fail(chosen: unknown): HandlerResult {
  if (outcomeKind(chosen) !== undefined) return chosen as HandlerResult;
  throw chosen === undefined ? new Error("this attempt failed because of failNext()") : chosen;
}
