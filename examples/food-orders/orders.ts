import { type Topic, topic } from "anybroker";
import { z } from "zod";

const DISHES = [
  { dish: "soup", cents: 650 },
  { dish: "noodles", cents: 1_190 },
  { dish: "curry", cents: 1_350 },
] as const;

const OrderPlaced = z.object({ orderId: z.string(), dish: z.string(), cents: z.int() });

export type OrderPlaced = z.infer<typeof OrderPlaced>;

/** The one event of this example. Runs have names of their own, so that none meets what another left behind. */
export function placedIn(run: string): Topic<OrderPlaced> {
  return topic(`food-orders.${run}.order.placed`, { schema: OrderPlaced, key: (order) => order.orderId });
}

/** Order number `number`, from 1 up. */
export function order(number: number): OrderPlaced {
  const { dish, cents } = DISHES[number % DISHES.length] ?? DISHES[0];
  return { orderId: `order-${String(number).padStart(4, "0")}`, dish, cents };
}
