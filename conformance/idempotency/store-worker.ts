// The program of a store process: executes orders that come as messages.
import type { IdempotencyStore } from "../../patterns/idempotency/index.ts";
import { obeyOrders } from "../stores/obey-orders.ts";
import type { OpenStore } from "./harness.ts";
import type { StoreOrder } from "./store-process.ts";

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

obeyOrders(obey);
