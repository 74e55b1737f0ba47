import { type Queue, queue, type Topic, topic } from "anybroker";
import { z } from "zod";

const Order = z.object({ id: z.string(), item: z.string(), cents: z.int() });
const OrderPlaced = z.object({ orderId: z.string(), cents: z.int() });

export type Order = z.infer<typeof Order>;
type OrderPlaced = z.infer<typeof OrderPlaced>;

/** Everything that one sale sends to. */
export interface Sale {
  readonly orders: Queue<Order>;
  readonly placed: Topic<OrderPlaced>;
}

/** The subscriptions of `placed`. Each gets its own copy of every event. */
export const SUBSCRIPTIONS = ["billing", "warehouse"] as const;

/** The destinations of the sale of this name. Runs have names of their own, so what one leaves behind is not met by the next. */
export function sale(name: string): Sale {
  return {
    orders: queue(`${name}.orders`, { schema: Order, key: (order) => order.id }),
    placed: topic(`${name}.order.placed`, { schema: OrderPlaced, key: (event) => event.orderId }),
  };
}

/** `count` orders, one of which nobody can charge for: the poison. */
export function customerOrders(count: number): Order[] {
  const poison = Math.floor(count / 3);
  return Array.from({ length: count }, (_, index) => ({
    id: `order-${String(index + 1).padStart(6, "0")}`,
    item: index % 2 === 0 ? "lamp" : "kettle",
    cents: index === poison ? 0 : 1_000 + (index % 400) * 5,
  }));
}
