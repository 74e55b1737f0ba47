import { setTimeout as sleep } from "node:timers/promises";
import { type Adapter, type Broker, createBroker } from "anybroker";
import { ledgerWriter, type Role } from "./ledger.ts";
import { sale } from "./orders.ts";

/** What a worker is told: plain data, so that it can be told to another process. */
export interface Job {
  readonly role: Role;
  readonly saleName: string;
  readonly ledgerFile: string;
}

/** Milliseconds of pretended work. */
const PAYMENT_MS = 40;
const PAPERWORK_MS = 10;

/** Starts a worker; it works until its broker is stopped, or its process ends. */
export async function startWorker(adapter: Adapter, { role, saleName, ledgerFile }: Job): Promise<Broker> {
  const { orders, placed } = sale(saleName);
  const write = ledgerWriter(ledgerFile);
  const broker = createBroker(adapter, {
    onEvent: (event) => {
      // The id of an order's message is the order's own: see main.ts.
      if (event.type === "dead-lettered") write("dead-lettered", role, event.id);
    },
  });

  if (role === "orders") {
    broker.consume(
      orders,
      async (order, { signal }) => {
        if (order.cents === 0) throw new Error("there is nothing to charge");
        await sleep(PAYMENT_MS, undefined, { signal });
        await broker.publish(placed, { orderId: order.id, cents: order.cents }, { id: `${order.id}.placed` });
        write("handled", role, order.id);
      },
      { concurrency: 40, retry: { attempts: 5, delay: { firstMs: 50, factor: 2 } } },
    );
  } else {
    broker.subscribe(
      placed,
      role,
      async (event, { signal }) => {
        await sleep(PAPERWORK_MS, undefined, { signal });
        write("handled", role, event.orderId);
      },
      { concurrency: 40 },
    );
  }

  await broker.start();
  return broker;
}
