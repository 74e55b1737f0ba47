import type { StoreAnswer } from "./store-process.ts";

/** Sends an answer to the parent process. */
export function answer(given: StoreAnswer): void {
  process.send?.(given);
}

/**
 * Runs a store process: executes each order that the parent sends, and exits with the parent. `obey` resolves with the
 * answer, or with undefined if it has sent one.
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

/** The messages of an error and its causes. */
function withCauses(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause === undefined ? error.message : `${error.message}: ${withCauses(error.cause)}`;
}
