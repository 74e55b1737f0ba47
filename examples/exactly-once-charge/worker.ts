import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { type Adapter, createBroker } from "anybroker";
import { idempotent } from "anybroker/idempotency";
import { openBooks } from "./books.ts";
import { chargesOf } from "./charges.ts";
import { journalWriter } from "./journal.ts";

/** What a worker is told: plain data, so that it can be told to another process. */
export interface Job {
  readonly run: string;
  /** Where the books are: the URL of a Postgres, or a file. */
  readonly books: string;
  readonly journalFile: string;
  /** Whether the middleware stands before the handler. */
  readonly guarded: boolean;
  /** Whether charges carry the message's id as their idempotency key. */
  readonly keyed: boolean;
}

export interface ChargeWorker {
  /** Lets it finish what it has begun. */
  stop(): Promise<void>;
  /** Cuts it off from everything, at once: nothing that its handlers still do has an effect. */
  cutOff(): Promise<void>;
}

/** Milliseconds of pretended work before the charge, and after it. */
const FRAUD_CHECK_MS = 50;
const RECEIPT_MS = 50;

/** After a kill a message waits for the end of its claim: at most so long. */
const LEASE_MS = 6_000;

/** Starts a worker; it works until it is stopped, or its process ends. */
export async function startWorker(adapter: Adapter, job: Job, name: string): Promise<ChargeWorker> {
  const books = await openBooks(job.books, job.run);
  const journal = journalWriter(job.journalFile, name);
  let isCutOff = false;
  const write: typeof journal = (deed, id) => {
    if (!isCutOff) journal(deed, id);
  };
  const broker = createBroker(adapter, {
    onEvent: (event) => {
      if (event.type === "dead-lettered") write("dead-lettered", event.id);
    },
  });
  const once = idempotent(books.claims, {
    leaseMs: LEASE_MS,
    waitMs: 1_000,
    postponeMs: 1_000,
    onEvent: ({ type, id }) => {
      if (type === "duplicate") write("kept-back", id);
      if (type === "claim-lost") write("lost", id);
    },
  });

  broker.consume(
    chargesOf(job.run),
    async (charge, { id, signal }) => {
      write("started", id);
      await sleep(FRAUD_CHECK_MS, undefined, { signal });
      // The one thing that must not be done twice. It carries the message's id, because from here to the completion of
      // the claim, just after the handler, a crash lets the handler run again.
      await books.charge(job.keyed ? id : randomUUID(), charge);
      await sleep(RECEIPT_MS);
      write("finished", id);
    },
    // Workers die often here, and each death counts as an attempt for what the worker held.
    { concurrency: 10, retry: { attempts: 20 }, use: job.guarded ? [once] : [] },
  );

  await broker.start();
  return {
    async stop() {
      await broker.stop();
      await books.close();
    },
    async cutOff() {
      isCutOff = true;
      await Promise.all([adapter.close(), books.close()]);
      await broker.stop({ timeoutMs: 0 });
    },
  };
}
