import type { Adapter } from "../../core/adapter.ts";
import type { Address } from "../../core/address.ts";
import { delegate } from "./delegate.ts";

/** An adapter whose answers to sends are kept back until `release`. */
export interface HeldConfirms<Native> {
  readonly adapter: Adapter<Native>;
  /** Ids handed over to the adapter, in order. */
  readonly handedOver: string[];
  /** Ids that the broker has answered for, in order, whether the engine was told or not. */
  readonly answered: string[];
  /** Passes on what was kept back, and everything from now on. */
  release(): void;
}

/**
 * Keeps back the answers to sends. With `swallow` the messages do not reach the broker either until `release`: so it
 * looks while a broker takes no more.
 */
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
