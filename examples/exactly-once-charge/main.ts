// Every charge is published twice, and workers are killed all the time; each card is charged exactly once. BROKER_URL says
// which broker, POSTGRES_URL where the books are; without them everything is in this process and a temporary file.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createBroker, isMessagingError } from "anybroker";
import { memorySpace } from "anybroker/memory";
import { fromUrl } from "anybroker/url";
import { Crew } from "../shared/crew.ts";
import { Progress } from "../shared/progress.ts";
import { SOON_MISSED } from "../shared/soon-missed.ts";
import { type Books, openBooks } from "./books.ts";
import { type Charge, chargesFor, chargesOf } from "./charges.ts";
import { closeBooks } from "./closing.ts";
import { inProcess, processes } from "./hire.ts";
import { readJournal } from "./journal.ts";

const CARDS = Number(process.env.CARDS || 1_000);
const KILLS = Number(process.env.KILLS || 8);
const GUARDED = process.env.MIDDLEWARE !== "off";
const KEYED = process.env.KEYS !== "off";
const WORKERS = 3;
const PATIENCE_MS = 180_000;
const LOOK_EVERY_MS = 50;

const run = Date.now().toString(36);
const queue = chargesOf(run);
const progress = new Progress();
const say = (line: string): void => progress.say(line);

const space = memorySpace();
const newAdapter = () => fromUrl(process.env.BROKER_URL || "memory:", { ...SOON_MISSED, memory: { space } });
const adapter = await newAdapter();
const shop = createBroker(adapter, { destinations: [queue] });
const folder = mkdtempSync(join(tmpdir(), "exactly-once-charge-"));
const job = {
  run,
  books: process.env.POSTGRES_URL || join(folder, "books.sqlite"),
  journalFile: join(folder, "journal"),
  guarded: GUARDED,
  keyed: KEYED,
};

try {
  await main();
} catch (error) {
  say(String(error));
  process.exitCode = 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}

async function main(): Promise<void> {
  const books = await openBooks(job.books, run);
  await books.make();
  await shop.start();
  const crew = new Crew(adapter.name === "memory" ? inProcess(job, newAdapter) : processes(job), say);
  await crew.start("charges", WORKERS);
  say(`${CARDS} charges, each published twice, on ${adapter.name} (${queue.name}); ${WORKERS} workers, ${KILLS} kills`);
  const guard = GUARDED ? "idempotent(store) before the handler" : "no middleware";
  say(`books in ${books.claims.name}; ${guard}; ${KEYED ? "the message's id as key" : "no key"} in the ledger`);

  const charges = chargesFor(CARDS);
  await killAsTheyWork(charges, books, crew);
  const complete = await until(books, () => readJournal(job.journalFile).over(2) === CARDS);
  await crew.stop();
  await shop.stop();

  const { closes, lines } = closeBooks(charges, await books.entries(), readJournal(job.journalFile));
  await books.close();
  say(`\nBooks after ${progress.seconds} s`);
  if (!complete) say("Nothing went on any more before everything was done.");
  for (const line of lines) say(line);
  say(closes ? "the books close: each card was charged exactly once" : "the books do not close");
  if (!closes || !complete) process.exitCode = 1;
}

/** Publishes in as many parts as there are kills. In each part a worker is killed at a random moment. */
async function killAsTheyWork(charges: readonly Charge[], books: Books, crew: Crew<"charges">): Promise<void> {
  const parts = Math.max(KILLS, 1);
  for (let part = 0; part < parts; part++) {
    const [begin, end] = [part, part + 1].map((edge) => Math.round((edge * CARDS) / parts)) as [number, number];
    await publishTwice(charges.slice(begin, end));
    if (KILLS === 0) continue;
    const moment = begin + Math.ceil((end - begin) * (0.1 + 0.6 * Math.random()));
    if (!(await until(books, (charged) => charged >= moment))) return;
    // Those before it may not have been replaced yet.
    while ((await crew.killOne("charges")) === undefined) await sleep(LOOK_EVERY_MS);
  }
}

/** Both copies of a charge have its id; they come in any order. */
async function publishTwice(charges: readonly Charge[]): Promise<void> {
  const copies = [...charges, ...charges].map((charge) => ({ charge, place: Math.random() }));
  copies.sort((a, b) => a.place - b.place);
  await Promise.all(copies.map(({ charge }) => publish(charge)));
}

async function publish(charge: Charge): Promise<void> {
  for (;;) {
    try {
      await shop.send(queue, charge, { id: charge.id });
      return;
    } catch (error) {
      // It may be stored. One copy more does no harm: that is the point.
      if (!isMessagingError(error, "unconfirmed") && !isMessagingError(error, "timeout")) throw error;
    }
  }
}

/** Waits until something is so, and shows how far things are. False if the deadline passed before. */
async function until(books: Books, isSo: (charged: number) => boolean): Promise<boolean> {
  while (progress.idleMs < PATIENCE_MS) {
    const charged = await books.count();
    const { keptBack, starts, killed } = readJournal(job.journalFile);
    progress.show(`charged ${charged}  kept back ${keptBack}  starts ${starts}  killed ${killed}`);
    if (isSo(charged)) return true;
    await sleep(LOOK_EVERY_MS);
  }
  return false;
}
