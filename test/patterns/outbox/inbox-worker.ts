// The program of a worker that kills itself at a step: consumes with an inbox, and writes its effects and messages.
import type { Adapter } from "../../../core/adapter.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { queue } from "../../../core/destination.ts";
import { createOutbox, type InboxStore, transactional } from "../../../patterns/outbox/index.ts";
import { openBooks } from "./inbox-books.ts";
import { type InboxWorkOrder, STEPS } from "./inbox-steps.ts";

interface Work {
  readonly n: number;
}

async function work(order: InboxWorkOrder): Promise<void> {
  const module = (await import(order.adapter.module)) as { createAdapter(options: unknown): Adapter };
  const broker = createBroker(module.createAdapter(order.adapter.options));
  const books = await openBooks(order.books);
  const outbox = createOutbox({ store: books.store, broker });
  const [orders, next] = [queue<Work>(order.queue), queue<Work>(order.next)];
  let handled = 0;
  const die = (step: InboxWorkOrder["step"]): void => {
    if (step === order.step && handled >= order.nth) process.kill(process.pid, "SIGKILL");
  };
  const inbox: InboxStore<unknown> = {
    name: books.inbox.name,
    clean: (...given) => books.inbox.clean(...given),
    handle: (message, run, options) =>
      books.inbox.handle(
        message,
        async (transaction) => {
          const wanted = await run(transaction);
          // After what asks for the commit, and before anybody sees its answer.
          setImmediate(() => die("committing"));
          return wanted;
        },
        options,
      ),
  };
  const handler = transactional<Work, unknown>(inbox, async (body, { id }, transaction) => {
    handled++;
    die("begun");
    await books.write(transaction, id);
    die("written");
    await outbox.send(transaction, next, body, { id });
    die("sent");
  });
  broker.consume(
    orders,
    async (body, delivery) => {
      const outcome = await handler(body, delivery);
      die("committed");
      return outcome;
    },
    // None of them is to be dead-lettered for those who died with it.
    { concurrency: 2, retry: { attempts: 10 * STEPS.length } },
  );
  await broker.start();
}

process.on("message", (order) =>
  work(order as InboxWorkOrder).catch((error: unknown) => {
    console.error(error);
    process.exit(1);
  }),
);
// The one who gives the orders is gone.
process.on("disconnect", () => process.exit(1));
