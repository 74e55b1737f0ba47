// A flash sale: 20,000 orders at once, slow workers, one order that cannot be handled, one worker killed. At the end the
// ledger says what became of every order. BROKER_URL says which broker; without it everything is in this process.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { createBroker, isMessagingError, subscription } from "anybroker";
import { memorySpace } from "anybroker/memory";
import { fromUrl } from "anybroker/url";
import { Crew } from "../shared/crew.ts";
import { Progress } from "../shared/progress.ts";
import { SOON_MISSED } from "../shared/soon-missed.ts";
import { inProcess, processes } from "./hire.ts";
import { type Account, Ledger, type Role } from "./ledger.ts";
import { customerOrders, type Order, SUBSCRIPTIONS, sale } from "./orders.ts";

const ORDERS = Number(process.env.ORDERS || 20_000);
/** Sends that wait for their confirm at once; the other customers wait for room. */
const PUBLISH_BUFFER = 2_000;
/** In process the queue itself is bounded as well; a broker's is on its disk. */
const QUEUE_BOUND = 15_000;
const PATIENCE_MS = 180_000;
const LOOK_EVERY_MS = 100;

const saleName = `flash-sale.${Date.now().toString(36)}`;
const progress = new Progress();
const say = (line: string): void => progress.say(line);

const { orders, placed } = sale(saleName);
const space = memorySpace({ maxMessages: QUEUE_BOUND });
const newAdapter = () => fromUrl(process.env.BROKER_URL || "memory:", { ...SOON_MISSED, memory: { space } });
const adapter = await newAdapter();
const folder = mkdtempSync(join(tmpdir(), "flash-sale-"));
const ledger = new Ledger(join(folder, "ledger"));
const shop = createBroker(adapter, {
  // Declared before anything is sent, so that nothing is published past a subscription.
  destinations: [orders, ...SUBSCRIPTIONS.map((name) => subscription(placed, name))],
  publish: { maxMessages: PUBLISH_BUFFER },
  onEvent: (event) => {
    if (event.type === "down")
      say(`shop: the connection is gone; ${shop.status().publishing.messages} sends wait for it`);
    if (event.type === "up") say("shop: connected again");
  },
});

try {
  await run();
} catch (error) {
  say(String(error));
  process.exitCode = 1;
} finally {
  ledger.close();
  rmSync(folder, { recursive: true, force: true });
}

async function run(): Promise<void> {
  await shop.start();
  const job = { saleName, ledgerFile: join(folder, "ledger") };
  const crew = new Crew(adapter.name === "memory" ? inProcess(job, newAdapter) : processes(job), say);
  await Promise.all([crew.start("orders", 3), ...SUBSCRIPTIONS.map((name) => crew.start(name, 1))]);
  say("All customers order at once, workers are slower, one order always fails, and a worker is killed.");
  say("Shown: backpressure, retries, a dead letter, and that no accepted order is lost.\n");
  say(`${ORDERS} orders on ${adapter.name} (${saleName}), 3 workers, subscriptions ${SUBSCRIPTIONS.join(" and ")}`);

  const selling = sell(customerOrders(ORDERS));
  const complete = await follow(crew);
  await crew.stop();
  const dead = await deadLetters(orders.name);
  await shop.stop();
  await selling;
  ledger.read();
  close(complete, dead);
}

/** Every customer orders at the same moment. The buffer is bounded: what does not fit waits for room. */
async function sell(all: readonly Order[]): Promise<void> {
  const begun = performance.now();
  const accepting = all.map((order) => accept(order));
  const { messages, waiting } = shop.status().publishing;
  say(`${messages} sends under way, ${waiting} customers wait for room: that is the backpressure`);
  await Promise.all(accepting);
  say(`${ledger.acceptedCount} orders accepted after ${((performance.now() - begun) / 1_000).toFixed(1)} s`);
}

/** Books the order as accepted when the broker has confirmed it, and not before. */
async function accept(order: Order): Promise<void> {
  for (;;) {
    try {
      await shop.send(orders, order, { id: order.id });
      ledger.accepted(order.id);
      return;
    } catch (error) {
      // May be stored, or never was sent: the same id makes it safe to send again.
      if (isMessagingError(error, "unconfirmed") || isMessagingError(error, "timeout")) continue;
      if (!isMessagingError(error, "closed")) say(`${order.id} was not accepted: ${error}`);
      return;
    }
  }
}

/** Shows how far the crew is, and kills one of it on the way. False if nothing went on any more before everything was done. */
async function follow(crew: Crew<Role>): Promise<boolean> {
  let killed: Promise<unknown> | undefined;
  while (progress.idleMs < PATIENCE_MS) {
    ledger.read();
    const [ordered, ...events] = accounts();
    const { waiting } = shop.status().publishing;
    progress.show(
      [
        `accepted ${ledger.acceptedCount}`,
        `waiting for room ${waiting}`,
        ...accounts().map(({ role, handled }) => `${role} ${handled}`),
        `dead letters ${ordered?.deadLettered}`,
      ].join("  "),
    );
    if (killed === undefined && (ordered?.handled ?? 0) > ORDERS * 0.3) killed = crew.killOne("orders");
    if (ledger.acceptedCount === ORDERS && [ordered, ...events].every((account) => account?.lost === 0)) {
      await killed;
      return true;
    }
    await sleep(LOOK_EVERY_MS);
  }
  return false;
}

function accounts(): Account[] {
  return (["orders", ...SUBSCRIPTIONS] as const).map((role) => ledger.account(role));
}

/** How many dead letters the broker itself counts; undefined if it cannot be asked. */
async function deadLetters(name: string): Promise<number | undefined> {
  try {
    const depth = await adapter.depth({ kind: "dead-letters", of: { kind: "queue", name } });
    return depth.ready;
  } catch {
    return undefined;
  }
}

function close(complete: boolean, dead: number | undefined): void {
  const rows = accounts();
  const line = (...cells: readonly (string | number)[]): string =>
    cells.map((cell) => String(cell).padStart(15)).join("");
  say(`\nLedger after ${progress.seconds} s`);
  if (!complete) say("Nothing went on any more before everything was done.");
  say(line("", "given", "handled", "dead-lettered", "lost", "duplicates"));
  for (const { role, given, handled, deadLettered, lost, duplicates } of rows) {
    say(line(role, given, handled, deadLettered, lost, duplicates));
  }
  const lost = rows.reduce((sum, row) => sum + row.lost, 0);
  const notAccepted = ORDERS - ledger.acceptedCount;
  say(`dead letters of the queue, as ${adapter.name} counts them: ${dead ?? "it could not be asked"}`);
  say(`accepted ${ledger.acceptedCount}, not accepted ${notAccepted}, lost ${lost}`);
  const duplicates = rows.reduce((sum, row) => sum + row.duplicates, 0);
  if (lost === 0 && notAccepted === 0) {
    say(
      `Proven: each accepted order was handled or is a dead letter. The kill cost ${duplicates} duplicates and no loss.`,
    );
    return;
  }
  say("NOT proven: see what is lost or not accepted.");
  process.exitCode = 1;
}
