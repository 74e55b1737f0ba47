import { type BrokerOptions, createBroker, queue, topic } from "anybroker";
import { type MemorySpace, memory } from "anybroker/memory";

export interface Order {
  readonly id: string;
}

export const orders = queue<Order>("orders");
export const returns = queue<Order>("returns");
export const placed = topic<Order>("order.placed");

/** Fails at most twice, and without a wait. */
const AT_ONCE = { attempts: 2, delay: { firstMs: 1, jitter: 0 } } as const;

/** A broker object of its own in this process, that fails fast. */
export function inProcess(options: BrokerOptions = {}, space?: MemorySpace) {
  const destinations = [orders, returns, placed];
  return createBroker(memory(space === undefined ? {} : { space }), {
    destinations,
    consume: { retry: AT_ONCE },
    ...options,
  });
}
