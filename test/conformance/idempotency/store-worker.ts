// The program of a store process: does as it is told by messages, one after another.
import type { IdempotencyStore } from "../../../patterns/idempotency/index.ts";
import type { OpenStore } from "./harness.ts";
import type { StoreAnswer, StoreOrder } from "./store-process.ts";

let store: IdempotencyStore | undefined;

async function obey(order: StoreOrder): Promise<readonly string[]> {
  if (order.type === "open") {
    const module = (await import(order.from.module)) as { openStore(options: unknown): OpenStore | Promise<OpenStore> };
    store = (await module.openStore(order.from.options)).store;
    return [];
  }
  const results = await Promise.all(order.keys.map((key) => store?.claim(key, order.leaseMs)));
  return results.map((result) => result?.status ?? "not open");
}

const answer = (given: StoreAnswer): void => void process.send?.(given);

process.on("message", (order) =>
  obey(order as StoreOrder).then(
    (statuses) => answer({ type: "answer", statuses }),
    (error: unknown) => answer({ type: "failed", message: error instanceof Error ? error.message : String(error) }),
  ),
);
// The one who gives the orders is gone.
process.on("disconnect", () => process.exit(1));
