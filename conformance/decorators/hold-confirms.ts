import type { Adapter } from "../../core/adapter.ts";
import type { Address } from "../../core/address.ts";
import { delegate } from "./delegate.ts";

/** An adapter that holds the results of sends back until `release`. */
export interface HeldConfirms<Native> {
  readonly adapter: Adapter<Native>;
  /** The ids given to the adapter, in order. */
  readonly handedOver: string[];
  /** The ids with a result of the broker, in order, reported to the engine or not. */
  readonly answered: string[];
  /** Reports the held results, and all later ones at once. */
  release(): void;
}

/** Holds the results of sends back. With `swallow` the messages do not reach the broker either, as on a blocked broker. */
export function holdConfirms<Native>(
  inner: Adapter<Native>,
  options: { readonly swallow?: boolean; readonly only?: (to: Address) => boolean } = {},
): HeldConfirms<Native> {
  const held: (() => void)[] = [];
  const handedOver: string[] = [];
  const answered: string[] = [];
  let holding = true;
  const adapter = delegate(inner, {
    send(to, batch, report) {
      if (options.only?.(to) === false) return inner.send(to, batch, report);
      handedOver.push(...batch.map((message) => message.id));
      const pass = (): void =>
        inner.send(to, batch, (index, result) => {
          answered.push(batch[index]?.id ?? "");
          if (holding) held.push(() => report(index, result));
          else report(index, result);
        });
      if (holding && options.swallow) held.push(pass);
      else pass();
    },
  });
  return {
    adapter,
    handedOver,
    answered,
    release() {
      holding = false;
      for (const go of held.splice(0)) go();
    },
  };
}
