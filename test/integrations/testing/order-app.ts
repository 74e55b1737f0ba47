import type { Broker } from "../../../core/broker.ts";
import { deadLetter } from "../../../core/delivery.ts";
import { queue, topic } from "../../../core/destination.ts";

/** An order as it is sent. */
export interface Order {
  readonly id: string;
  readonly total: number;
}

export const orders = queue<Order>("orders", { key: ({ id }) => id });
export const receipts = queue<{ orderId: string; total: number }>("receipts");
export const placed = topic<{ orderId: string }>("order.placed");

/** What stands outside of the application. */
export interface Payments {
  charge(orderId: string, attempt: number): Promise<void> | void;
}

/** A small application as it might be under test: it takes orders, tells of them, and bills them. */
export function orderApp(broker: Broker, payments: Payments, firstRetryMs: number): void {
  broker.consume(
    orders,
    async (order, { attempt }) => {
      if (order.total < 0) return deadLetter("a total is never negative");
      await payments.charge(order.id, attempt);
      await broker.publish(placed, { orderId: order.id }, { headers: { "x-source": "orders" } });
    },
    { retry: { attempts: 3, delay: { firstMs: firstRetryMs, factor: 2, maxMs: firstRetryMs * 10 } } },
  );
  broker.subscribe(placed, "billing", async ({ orderId }, { id }) => {
    await broker.send(receipts, { orderId, total: 1 }, { id: `receipt of ${id}` });
  });
  broker.subscribe(placed, "audit", () => {});
}
