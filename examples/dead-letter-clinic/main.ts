// A bad deploy makes 1,000 of 10,000 orders dead, in three ways. They are looked at, sent back too early, edited, sent back
// and discarded; at the end the ledger says what became of each order. BROKER_URL says which broker; without it everything
// is in this process.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Broker, createBroker, isMessagingError } from "anybroker";
import { type AuditEvent, deadLetters } from "anybroker/dead-letters";
import { memoryIdempotencyStore } from "anybroker/idempotency";
import { memorySpace } from "anybroker/memory";
import { fromUrl } from "anybroker/url";
import { Progress } from "../shared/progress.ts";
import { SOON_MISSED } from "../shared/soon-missed.ts";
import { until } from "../shared/until.ts";
import { Clinic } from "./clinic.ts";
import { Ledger } from "./ledger.ts";
import { customerOrders, type OldOrder, type Order, ordersOf } from "./orders.ts";
import { deploy } from "./worker.ts";

const ORDERS = Number(process.env.ORDERS || 10_000);

const space = memorySpace();
const newAdapter = () => fromUrl(process.env.BROKER_URL || "memory:", { ...SOON_MISSED, memory: { space } });
const progress = new Progress();
const say = (line: string): void => progress.say(line);
const orders = ordersOf(Date.now().toString(36));
const ledger = new Ledger();
const office = { orders, ledger, done: memoryIdempotencyStore() };
const audit: AuditEvent[] = [];
const folder = mkdtempSync(join(tmpdir(), "dead-letter-clinic-"));
const started: Broker[] = [];

try {
  await main();
} catch (error) {
  say(String(error));
  process.exitCode = 1;
} finally {
  await Promise.all(started.map((broker) => broker.stop()));
  rmSync(folder, { recursive: true, force: true });
}

async function main(): Promise<void> {
  const adapter = await newAdapter();
  const shop = createBroker(adapter, { destinations: [orders.sent] });
  await shop.start();
  started.push(shop);
  say(`${ORDERS} orders on ${adapter.name} (${orders.sent.name}); v2 of the worker is deployed`);
  const v2 = await deploy("v2", await newAdapter(), office);
  started.push(v2);
  await Promise.all(customerOrders(ORDERS).map((order) => send(shop, order)));
  await until("every order was tried", () => ledger.waiting === 0, progress, soFar);

  const tool = createBroker(await newAdapter(), { destinations: [orders.handled], declare: "verify" });
  await tool.start();
  started.push(tool);
  const told = { by: "the clinic", audit: (event: AuditEvent) => void audit.push(event) };
  const clinic = new Clinic(deadLetters(tool, orders.handled, told), say);
  const { timedOut, renamed, unwanted } = await clinic.diagnose();
  await clinic.replayTooEarly(timedOut);

  await v2.stop();
  started.push(await deploy("v3", await newAdapter(), office));
  say("\nv3 of the worker is deployed: the fix");

  const first = await clinic.editOne(renamed);
  ledger.edited(first);
  await until("the edited order was handled", () => ledger.isHandled(first.id), progress, soFar);
  say("  handled");
  for (const edited of await clinic.editOthers(renamed)) ledger.edited(edited);
  await clinic.replay(timedOut);
  const archived = await clinic.discard(unwanted, process.env.ARCHIVE || join(folder, "archive.jsonl"));
  for (const { messageId } of archived) ledger.archived(messageId);

  // The ledger says which had none.
  const closing = until("every order had its end", () => ledger.open === 0, progress, soFar);
  await closing.catch((error: Error) => say(error.message));
  close(await clinic.left());
}

/** The message has the order's id: what is sent a second time is a duplicate, and known as one. */
async function send(shop: Broker, order: Order | OldOrder): Promise<void> {
  for (;;) {
    try {
      await shop.send(orders.sent, order, { id: order.id });
      return ledger.given(order.id);
    } catch (error) {
      if (!isMessagingError(error, "unconfirmed") && !isMessagingError(error, "timeout")) throw error;
    }
  }
}

function soFar(): string {
  return `open ${ledger.open}  not tried yet ${ledger.waiting}`;
}

function close(left: number): void {
  say("\nThe audit");
  for (const { action, by, count, phase, stopped } of audit) {
    if (phase === "begun") say(`  ${action} of ${count} begun by ${by}`);
    else say(`  ${action} of ${count} ended${stopped === undefined ? "" : `: ${stopped}`}`);
  }
  const { closes, lines } = ledger.close(left);
  say(`\nLedger after ${progress.seconds} s`);
  for (const line of lines) say(line);
  say(closes ? "the ledger closes: each order was handled once, or archived" : "the ledger does not close");
  if (!closes) process.exitCode = 1;
}
