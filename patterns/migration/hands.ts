import { reportOf } from "./instance-report.ts";
import type { Side } from "./state.ts";
import type { StoredInstance } from "./store.ts";

/** A report that is written now may have been made before; the one after it was not. */
const REPORTS = 2;

/** What the instances hold of a side, for brokers that do not count what is unsettled. */
export class Hands {
  readonly #side: Side;
  /** The reports at the first of the looks that found nothing. */
  #since: ReadonlyMap<string, number> | undefined;

  constructor(side: Side) {
    this.#side = side;
  }

  /** Something is there: what was seen before does not count. */
  disturbed(): void {
    this.#since = undefined;
  }

  /** How many deliveries they say they hold; undefined until each has said it since the first look. */
  look(instances: readonly StoredInstance[]): number | undefined {
    const reports = instances.map(({ instance, report }) => ({ instance, report: reportOf(report) }));
    const held = reports.reduce((sum, { report }) => sum + (report.held?.[this.#side] ?? 0), 0);
    if (held > 0) return held;
    this.#since ??= new Map(reports.map(({ instance, report }) => [instance, report.count ?? 0]));
    const since = this.#since;
    const all = reports.every(({ instance, report }) => (report.count ?? 0) >= (since.get(instance) ?? 0) + REPORTS);
    return all ? 0 : undefined;
  }
}
