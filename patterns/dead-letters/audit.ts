import type { BrokerInternals } from "../../core/broker-internals.ts";
import type { BrokerEvent } from "../../core/events.ts";
import type { Plan } from "./plan.ts";
import type { RunResult } from "./run-result.ts";

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
