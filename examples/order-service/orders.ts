import { type Topic, topic } from "anybroker";
import { z } from "zod";

export const Order = z.object({
  id: z.string().max(60),
  customer: z.string().max(60),
  cents: z.int().min(1),
});

export type Order = z.infer<typeof Order>;

/** A customer, and for how much may be ordered on credit. */
export interface Customer {
  readonly name: string;
  readonly credit: number;
}

/** Who turns events into invoices. */
export const BILLING = "billing";

/** The events of the run of this name. Runs have names of their own, so what one leaves behind is not met by the next. */
export function placedIn(run: string): Topic<Order> {
  return topic(`order-service.${run}.placed`, { schema: Order, key: (order) => order.customer });
}

const ORDERS_EACH = 10;

/** The share of all orders that the credit is for. */
export const SHARE_ON_CREDIT = 0.9;

/** So many customers, and ten orders of each, for one amount; the credit is enough for nine. They come in any order. */
export function marketOf(customers: number): { readonly customers: Customer[]; readonly orders: Order[] } {
  const amounts = Array.from({ length: customers }, (_, index) => 1_000 + index * 5);
  const name = (index: number): string => `customer-${String(index + 1).padStart(4, "0")}`;
  const orders = amounts.flatMap((cents, index) =>
    Array.from({ length: ORDERS_EACH }, (_, number) => ({
      order: { id: `order-${index + 1}-${number + 1}`, customer: name(index), cents },
      place: Math.random(),
    })),
  );
  orders.sort((one, other) => one.place - other.place);
  return {
    customers: amounts.map((cents, index) => ({
      name: name(index),
      credit: Math.round(SHARE_ON_CREDIT * ORDERS_EACH) * cents,
    })),
    orders: orders.map(({ order }) => order),
  };
}
