import { type Adapter, queue, subscription, topic } from "anybroker";
import { type IdempotencyStore, idempotent } from "anybroker/idempotency";
import { type Migration, type MigrationStore, migration } from "anybroker/migration";
import type { Ledger } from "./ledger.ts";

export interface Order {
  readonly id: string;
  readonly customer: string;
  /** The customer's first order is 0. */
  readonly number: number;
  readonly cents: number;
}

/** What moves, under names of one run. Orders of a customer are charged one after another, and receipts go out likewise. */
export function catalogOf(run: string) {
  const key = ({ customer }: Order): string => customer;
  const orders = queue<Order>(`migrate-broker.orders.${run}`, { key, ordered: true });
  const charged = topic<Order>(`migrate-broker.charged.${run}`, { key, ordered: true });
  const newsletters = queue<{ readonly customer: string }>(`migrate-broker.newsletters.${run}`);
  return {
    orders,
    charged,
    newsletters,
    destinations: [orders, charged, subscription(charged, "receipts"), newsletters],
  };
}

export type Catalog = ReturnType<typeof catalogOf>;

/** From where to where, and what all instances share. */
export interface Leg {
  readonly name: string;
  readonly from: () => Promise<Adapter>;
  readonly to: () => Promise<Adapter>;
  readonly catalog: Catalog;
  readonly ledger: Ledger;
  readonly idempotency: IdempotencyStore;
  /** Opens the state store, with a connection of its own. */
  readonly openState: () => { readonly state: MigrationStore; readonly close: () => void };
}

/** One instance of the shop's service. */
export interface Instance {
  readonly broker: Migration;
  /** Cuts every connection, that to the state included, under the running handlers. */
  cutOff(): Promise<void>;
  /** Lets it finish what it has begun. */
  stop(): Promise<void>;
}

/** How long the others wait for an instance that died. */
const LEASE_MS = Number(process.env.LEASE_MS || 3_000);
const WORK_MS = 5;

/** Starts an instance. It is written as on any broker: only its broker object is another. */
export async function startInstance(leg: Leg): Promise<Instance> {
  const { catalog, ledger } = leg;
  const [from, to] = await Promise.all([leg.from(), leg.to()]);
  const { state, close } = leg.openState();
  let connected = true;
  const reach = async (): Promise<void> => {
    await new Promise((resolve) => setTimeout(resolve, WORK_MS * Math.random()));
    if (!connected) throw new Error("this instance was cut off");
  };

  const broker = migration({
    name: leg.name,
    from,
    to,
    state,
    destinations: catalog.destinations,
    idempotency: idempotent(leg.idempotency, { leaseMs: 3_000, waitMs: 500, postponeMs: 300 }),
    broker: { consume: { retry: { attempts: 20, delay: { firstMs: 50, maxMs: 1_000 } } } },
    leaseMs: LEASE_MS,
    pollMs: 100,
  });
  broker.consume(catalog.orders, async (order) => {
    await reach();
    ledger.charge(order);
    await broker.publish(catalog.charged, order, { id: `charged-${order.id}` });
  });
  broker.subscribe(catalog.charged, "receipts", async (order) => {
    await reach();
    ledger.receipt(order);
  });
  broker.consume(catalog.newsletters, async (_, { id }) => {
    await reach();
    ledger.newsletter(id);
  });
  await broker.start();
  return {
    broker,
    async cutOff() {
      connected = false;
      close();
      await Promise.all([from.close(), to.close()]);
      await broker.stop({ timeoutMs: 0 });
    },
    async stop() {
      await broker.stop();
      close();
    },
  };
}
