// An order API writes each order and its event in one transaction, a relay sends the events, billing writes an invoice for
// each; all of them are killed all the time, and the books balance. BROKER_URL says which broker, POSTGRES_URL which
// database; without them everything is in this process and a temporary file.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createBroker, subscription } from "anybroker";
import { memorySpace } from "anybroker/memory";
import { fromUrl } from "anybroker/url";
import { Crew } from "../shared/crew.ts";
import { Progress } from "../shared/progress.ts";
import { SOON_MISSED } from "../shared/soon-missed.ts";
import { Books } from "./books.ts";
import { type Answers, buy } from "./buyers.ts";
import { closeBooks } from "./closing.ts";
import { type Database, withDatabase } from "./database.ts";
import { inProcess, processes } from "./hire.ts";
import type { Role } from "./job.ts";
import { BILLING, marketOf, placedIn, SHARE_ON_CREDIT } from "./orders.ts";
import { readTally } from "./tally.ts";

const CUSTOMERS = Number(process.env.CUSTOMERS || 100);
const KILLS = Number(process.env.KILLS || 5);
const OUTBOX = process.env.OUTBOX !== "off";
const INBOX = process.env.INBOX !== "off";
const SHOPS = 2;
const WORKERS = 2;
const PATIENCE_MS = 180_000;
const LOOK_EVERY_MS = 50;

const run = Date.now().toString(36);
const placed = placedIn(run);
const { customers, orders } = marketOf(CUSTOMERS);
const answers: Answers = { accepted: new Set(), there: new Set(), refused: new Set(), unanswered: 0 };
const killed = { shop: 0, billing: 0 };
const progress = new Progress();
const say = (line: string): void => progress.say(line);

const space = memorySpace();
const newAdapter = () => fromUrl(process.env.BROKER_URL || "memory:", { ...SOON_MISSED, memory: { space } });
const adapter = await newAdapter();
// Declared before anything is published, so that nothing is published past the subscription.
const office = createBroker(adapter, { destinations: [subscription(placed, BILLING)] });
const folder = mkdtempSync(join(tmpdir(), "order-service-"));
const tallyFile = join(folder, "tally");
const place = process.env.POSTGRES_URL || join(folder, "shop.sqlite");
const shops = new Set<string>();
const task = { run, database: place, tallyFile, outbox: OUTBOX, inbox: INBOX };

try {
  await withDatabase(place, run, main);
} catch (error) {
  say(String(error));
  process.exitCode = 1;
} finally {
  rmSync(folder, { recursive: true, force: true });
}

async function main<Transaction>(database: Database<Transaction>): Promise<void> {
  const books = new Books(database, run);
  writeFileSync(tallyFile, "");
  const crew = new Crew(
    adapter.name === "memory" ? inProcess(task, newAdapter, shops) : processes(task, folder, shops),
    say,
  );
  const count = (): Promise<number> => books.countInvoiced();
  try {
    await books.make(customers);
    await office.start();
    await Promise.all([crew.start("shop", SHOPS), crew.start("billing", WORKERS)]);
    const by = OUTBOX ? "by the outbox" : "after the commit, without the outbox";
    say(`${orders.length} orders on ${adapter.name} (${placed.name}); ${SHOPS} shops, ${WORKERS} billing workers`);
    say(`database ${database.outbox.name}; events ${by}; ${INBOX ? "billing with" : "billing without"} the inbox`);
    await killAsTheyBuy(count, crew);
    const isSettled = async (invoiced: number): Promise<boolean> => {
      // Without the outbox there are orders that never get one.
      if (OUTBOX && invoiced < answers.accepted.size) return false;
      return (await database.outbox.health()).unsent === 0 && (await isQuiet());
    };
    if (!(await until(count, isSettled))) {
      say("Nothing went on any more before everything was done.");
      process.exitCode = 1;
    }
  } finally {
    await crew.stop();
    await office.stop();
  }
  const evidence = { customers, answers, contents: await books.contents(), tally: readTally(tallyFile), killed };
  await database.close();
  const { balance, lines } = closeBooks(evidence);
  say(`\nBooks after ${progress.seconds} s`);
  for (const line of lines) say(line);
  say(balance ? "the books balance: every accepted order has exactly one invoice" : "the books do not balance");
  if (!balance) process.exitCode = 1;
}

/** The orders come in as many parts as there are kills. In each a shop and a worker are killed, at random moments. */
async function killAsTheyBuy(count: () => Promise<number>, crew: Crew<Role>): Promise<void> {
  const parts = Math.max(KILLS, 1);
  for (let part = 0; part < parts; part++) {
    const [begin, end] = [part, part + 1].map((edge) => Math.round((edge * orders.length) / parts)) as [number, number];
    const moment = (share: number): number => share * (begin + (end - begin) * (0.1 + 0.6 * Math.random()));
    const [forShop, forWorker] = [moment(1), moment(SHARE_ON_CREDIT)];
    const kills: Promise<void>[] = [];
    const given = new AbortController();
    let isBuying = true;
    const buying = buy(orders.slice(begin, end), shops, answers, given.signal).finally(() => {
      isBuying = false;
    });
    const giveUp = async (): Promise<void> => {
      if (!(await until(count, () => !isBuying))) given.abort();
    };
    if (KILLS > 0) {
      kills.push(killWhen("shop", crew, count, () => answers.accepted.size + answers.refused.size >= forShop));
      kills.push(killWhen("billing", crew, count, (invoiced) => invoiced >= forWorker));
    }
    await Promise.all([buying, giveUp(), ...kills]);
  }
}

async function killWhen(
  role: Role,
  crew: Crew<Role>,
  count: () => Promise<number>,
  isTime: (invoiced: number) => boolean,
): Promise<void> {
  if (!(await until(count, isTime))) return;
  // Those before it may not have been replaced yet.
  while ((await crew.killOne(role)) === undefined) await sleep(LOOK_EVERY_MS);
  killed[role]++;
}

/** Whether every event that was sent has been handled, all copies included. */
async function isQuiet(): Promise<boolean> {
  const { ready, unsettled = 0 } = await office.depth(placed, BILLING);
  return ready + unsettled === 0;
}

/** Waits until something is so, and shows how far things are. False if the deadline passed before. */
async function until(
  count: () => Promise<number>,
  isSo: (invoiced: number) => boolean | Promise<boolean>,
): Promise<boolean> {
  while (progress.idleMs < PATIENCE_MS) {
    const invoiced = await count();
    const { accepted, refused } = answers;
    progress.show(
      `accepted ${accepted.size}  refused ${refused.size}  invoiced ${invoiced}  ` +
        `killed ${killed.shop} shops and ${killed.billing} workers`,
    );
    if (await isSo(invoiced)) return true;
    await sleep(LOOK_EVERY_MS);
  }
  return false;
}
