import { type Queue, queue } from "anybroker";
import { z } from "zod";

const Order = z.object({
  id: z.string(),
  customer: z.string(),
  cents: z.int(),
  currency: z.enum(["EUR", "CHF"]),
  postcode: z.string(),
});

export type Order = z.infer<typeof Order>;

/** What an old app still sends. The postcode was the zip before. */
export type OldOrder = Omit<Order, "postcode"> & { readonly zip: string };

/** One queue, seen from both of its ends. */
export interface Orders {
  /** Where orders are sent to. Nobody looks at them there: that is how an old app gets its orders in. */
  readonly sent: Queue<Order | OldOrder>;
  /** Where they are handled, since the deploy by a schema. */
  readonly handled: Queue<Order>;
}

/** The queue of the run of this name. Runs have names of their own, so what one leaves behind is not met by the next. */
export function ordersOf(run: string): Orders {
  const name = `dead-letter-clinic.${run}`;
  return {
    sent: queue<Order | OldOrder>(name, { key: (order) => order.id }),
    handled: queue(name, { schema: Order, key: (order) => order.id }),
  };
}

/** What a load test calls itself that was pointed at the shop. */
export const LOAD_TEST = "load-test-";

/**
 * So many orders, of which the deploy makes a tenth dead: of each 50 of these, 39 are in francs, 5 of the old app, and 6 of
 * a load test.
 */
export function customerOrders(count: number): (Order | OldOrder)[] {
  return Array.from({ length: count }, (_, index) => {
    const ill = index % 10 === 7 ? Math.floor(index / 10) % 50 : undefined;
    const order = {
      id: `order-${String(index + 1).padStart(6, "0")}`,
      customer: ill !== undefined && ill >= 5 && ill < 11 ? `${LOAD_TEST}${ill}` : `customer-${index % 700}`,
      cents: 1_000 + (index % 400) * 5,
      currency: ill !== undefined && ill >= 11 ? ("CHF" as const) : ("EUR" as const),
    };
    const place = String(10_115 + (index % 80) * 10);
    return ill !== undefined && ill < 5 ? { ...order, zip: place } : { ...order, postcode: place };
  });
}
