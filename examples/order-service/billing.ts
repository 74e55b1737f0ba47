import { setTimeout as sleep } from "node:timers/promises";
import { type Adapter, createBroker, type Handler } from "anybroker";
import { transactional } from "anybroker/outbox";
import { Books } from "./books.ts";
import { type Database, withDatabase } from "./database.ts";
import type { Job, RunningPart } from "./job.ts";
import { BILLING, type Order, placedIn } from "./orders.ts";
import { tallyWriter } from "./tally.ts";

/** Milliseconds of pretended work: within the transaction, and between its commit and the acknowledgement. */
const INVOICE_MS = 5;
const ARCHIVE_MS = 20;

/** Starts a worker that turns events into invoices. */
export function startBilling(adapter: Adapter, job: Job): Promise<RunningPart> {
  return withDatabase(job.database, job.run, (database) => billingOn(database, adapter, job));
}

async function billingOn<Transaction>(
  database: Database<Transaction>,
  adapter: Adapter,
  { run, tallyFile, inbox: hasInbox }: Job,
): Promise<RunningPart> {
  const tally = tallyWriter(tallyFile);
  const books = new Books(database, run);
  const broker = createBroker(adapter, {
    onEvent: ({ type }) => {
      if (type === "dead-lettered") tally("dead-lettered");
    },
  });

  const invoice = async ({ id, customer, cents }: Order, transaction: Transaction): Promise<void> => {
    tally("started");
    await books.invoice(transaction, { orderId: id, customer, cents });
    await sleep(INVOICE_MS);
  };
  const once = transactional<Order, Transaction>(
    database.inbox,
    // The invoice is written in the transaction that remembers the event: both are kept, or neither.
    (order, _delivery, transaction) => invoice(order, transaction),
    {
      postponeMs: 1_000,
      onEvent: ({ type }) => {
        if (type === "duplicate") tally("kept-back");
      },
    },
  );
  const withoutInbox: Handler<Order> = (order) => database.transaction((transaction) => invoice(order, transaction));
  const handle = hasInbox ? once : withoutInbox;

  broker.subscribe(
    placedIn(run),
    BILLING,
    async (order, delivery) => {
      const outcome = await handle(order, delivery);
      // The invoice is committed and the event not yet acknowledged: a worker that is killed here gets it again.
      await sleep(ARCHIVE_MS);
      return outcome;
    },
    // Workers die often here, and each death counts as an attempt for what the worker held.
    { concurrency: 10, retry: { attempts: 20 } },
  );
  await broker.start();
  return {
    async stop() {
      await broker.stop();
      await database.close();
    },
    async cutOff() {
      await Promise.all([adapter.close(), database.close()]);
      await broker.stop({ timeoutMs: 0 });
    },
  };
}
