// The program of a store process: executes orders that come as messages.
import { setInterval } from "node:timers";
import { answer, obeyOrders } from "../stores/obey-orders.ts";
import type { OpenInbox, OpenOutbox } from "./harness.ts";
import type { StoreOrder } from "./store-process.ts";

interface Module {
  openOutbox(options: unknown): Promise<OpenOutbox<unknown>>;
  openInbox(options: unknown): Promise<OpenInbox<unknown>>;
}

const opened: { outbox?: OpenOutbox<unknown>; inbox?: OpenInbox<unknown> } = {};
const signal = new AbortController().signal;
// Keeps the process alive while a transaction stays open.
setInterval(() => {}, 60_000);

async function obey(order: StoreOrder): Promise<readonly string[] | undefined> {
  if (order.type === "open") {
    const module = (await import(order.from.module)) as Module;
    if (order.what === "outbox") opened.outbox = await module.openOutbox(order.from.options);
    else opened.inbox = await module.openInbox(order.from.options);
    return [];
  }
  if (order.type === "handle") return handle(order);
  const { outbox } = opened;
  if (outbox === undefined) throw new Error("no outbox is open");
  if (order.type === "claim") {
    const claim = await outbox.store.claim({ relay: "process", limit: 100, leaseMs: order.leaseMs });
    return (claim?.rows ?? []).map(({ id }) => id);
  }
  const { transaction } = await outbox.begin();
  await outbox.store.insert(
    transaction,
    order.rows.map((row) => ({ ...row, body: Buffer.from(row.body) })),
  );
  return [];
}

async function handle(order: Extract<StoreOrder, { readonly type: "handle" }>): Promise<readonly string[] | undefined> {
  const { inbox } = opened;
  if (inbox === undefined) throw new Error("no inbox is open");
  const work = async (transaction: unknown): Promise<boolean> => {
    await inbox.write(transaction, order.message.id);
    if (!order.stay) return true;
    answer({ type: "answer", texts: ["working"] });
    return new Promise(() => {});
  };
  return [await inbox.inbox.handle(order.message, work, { waitMs: 30_000, signal })];
}

obeyOrders(obey);
