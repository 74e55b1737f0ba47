import type { StoreAnswer } from "./store-process.ts";

/** Says something to the one who gives the orders. */
export function answer(given: StoreAnswer): void {
  process.send?.(given);
}

/**
 * The whole life of a store process: it does as it is told by messages, one after another, and ends with the one who gives
 * the orders. `obey` resolves with the answer, or with undefined where it was given already.
 */
export function obeyOrders<Order>(obey: (order: Order) => Promise<readonly string[] | undefined>): void {
  process.on("message", (order) =>
    obey(order as Order).then(
      (texts) => texts !== undefined && answer({ type: "answer", texts }),
      (error: unknown) => answer({ type: "failed", message: withCauses(error) }),
    ),
  );
  process.on("disconnect", () => process.exit(1));
}

/** An error and what it came of, as one text. */
function withCauses(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause === undefined ? error.message : `${error.message}: ${withCauses(error.cause)}`;
}
