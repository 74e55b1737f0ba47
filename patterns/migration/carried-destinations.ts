import type { Queue, Topic } from "../../core/index.ts";
import { carried } from "./carried.ts";
import type { Side } from "./state.ts";

type AnyDestination = Queue<never, unknown> | Topic<never, unknown>;
type Carried = Queue<unknown> & Topic<unknown>;

/** What a side carries a destination as, made once. */
export class CarriedDestinations {
  readonly #made: Readonly<
    Record<Side, WeakMap<AnyDestination, { readonly accepted: string; readonly carried: Carried }>>
  > = {
    from: new WeakMap(),
    to: new WeakMap(),
  };

  of(destination: AnyDestination, side: Side, accepted: readonly string[]): Carried {
    const known = this.#made[side].get(destination);
    const names = accepted.join();
    if (known !== undefined && known.accepted === names) return known.carried;
    const made = carried(destination, side, accepted);
    this.#made[side].set(destination, { accepted: names, carried: made });
    return made;
  }
}
