import { addressName } from "../../core/index.ts";
import type { Plan } from "./plan.ts";

const PAGE = 1_000;
/** More than these at once are not followed; there will be fewer when the load is less. */
const MOST = 100_000;

/**
 * Follows the ids that were missing at the first look, until each was handled. Under load something is always on its way:
 * what was published since is not asked for.
 */
export class Missing {
  readonly #plan: Plan;
  #open: ReadonlyMap<string, ReadonlySet<string>> | undefined;

  constructor(plan: Plan) {
    this.#plan = plan;
  }

  /** The ids that have been missing since the first look, by source; those without any are left out. */
  async look(): Promise<ReadonlyMap<string, ReadonlySet<string>>> {
    const before = this.#open;
    const open = new Map<string, ReadonlySet<string>>();
    let count = 0;
    for (const { address } of this.#plan.works()) {
      const source = addressName(address);
      if (before !== undefined && !before.has(source)) continue;
      const ids = await this.#of(source, before?.get(source));
      count += ids.size;
      if (ids.size > 0) open.set(source, ids);
    }
    if (count <= MOST) this.#open = open;
    return open;
  }

  async #of(source: string, among: ReadonlySet<string> | undefined): Promise<ReadonlySet<string>> {
    const { state, name } = this.#plan;
    const ids = new Set<string>();
    let after: string | undefined;
    while (ids.size <= MOST) {
      const page = await state.list(name, source, "missing", after, PAGE);
      for (const id of page) if (among === undefined || among.has(id)) ids.add(id);
      after = page.at(-1);
      if (page.length < PAGE) break;
    }
    return ids;
  }
}
