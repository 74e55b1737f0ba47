import { createBroker, deadLetter, queue, subscription, topic } from "anybroker";
import { memory, memorySpace } from "anybroker/memory";
import { z } from "zod";
import type { Configuration } from "../../cli/configuration.ts";

const Order = z.object({ id: z.string(), total: z.number() });

/** A little shop on an in-process broker: a configuration, and what its commands work on. */
export interface Shop {
  readonly configuration: Configuration;
  readonly orders: ReturnType<typeof makeOrders>;
  readonly placed: ReturnType<typeof makePlaced>;
  /** Makes queues and topics, and messages that are dead on them. */
  stock(dead?: readonly { readonly id: string; readonly total: number }[]): Promise<void>;
  /** Begins to consume from the queue, and fails at everything. */
  failing(): Promise<{ stop(): Promise<void> }>;
  /** Takes everything that stands on the queue. */
  takeOrders(): Promise<{ readonly id: string; readonly total: number }[]>;
}

function makeOrders() {
  return queue("orders", { schema: Order, key: ({ id }) => id });
}

function makePlaced() {
  return topic<{ readonly orderId: string }>("order.placed");
}

/** Makes a shop; nothing stands on its broker yet. */
export function shop(more: Partial<Configuration> = {}): Shop {
  const space = memorySpace();
  const [orders, placed] = [makeOrders(), makePlaced()];
  const destinations = [orders, placed, subscription(placed, "billing"), queue("rejected")];
  const made = () => createBroker(memory({ space }), { destinations });
  return {
    configuration: { broker: () => memory({ space }), destinations, by: "ann", ...more },
    orders,
    placed,
    async stock(dead = []) {
      const broker = made();
      const consumer = broker.consume(
        orders,
        ({ id, total }) => {
          if (total < 0) return deadLetter(`order ${id} has a negative total`);
          throw new TypeError(`no currency for order ${id}`);
        },
        { retry: { attempts: 1 } },
      );
      await broker.start();
      // One after the other, so that they stand in this order.
      for (const [index, order] of dead.entries()) {
        await broker.send(orders, order, { headers: { tenant: "acme" } });
        while (consumer.status().deadLettered <= index) await new Promise((resolve) => setImmediate(resolve));
        // The next one fails at another time, by which they are put in order.
        const failedBy = Date.now();
        while (Date.now() === failedBy) await new Promise((resolve) => setImmediate(resolve));
      }
      await broker.stop();
    },
    async failing() {
      const broker = made();
      broker.consume(
        orders,
        ({ id }) => {
          throw new TypeError(`still no currency for order ${id}`);
        },
        { retry: { attempts: 1 } },
      );
      await broker.start();
      return { stop: () => broker.stop() };
    },
    async takeOrders() {
      const broker = made();
      const taken: { id: string; total: number }[] = [];
      broker.consume(orders, (order) => void taken.push(order));
      await broker.start();
      for (;;) {
        const { ready, unsettled } = await broker.depth(orders);
        if (ready === 0 && unsettled === 0) break;
        await new Promise((resolve) => setImmediate(resolve));
      }
      await broker.stop();
      return taken;
    },
  };
}
