// Riders ask for rides, matching finds drivers, each ride is audited and its rider gets a receipt: on three brokers in one
// process, behind one interface. Then the audit is computed again from the log. MATCHING_URL, AUDIT_URL and RECEIPTS_URL
// say which brokers; without them all three are in this process.
import { isMessagingError } from "anybroker";
import { publisherOf } from "anybroker/inversify";
import { fromUrl } from "anybroker/url";
import { ContainerModule } from "inversify";
import { Progress } from "../shared/progress.ts";
import { until } from "../shared/until.ts";
import { AuditBook, audit } from "./audit.ts";
import { type Adapters, startDispatch } from "./dispatch.ts";
import { Drivers } from "./drivers.ts";
import { closeLedger } from "./ledger.ts";
import { matching } from "./matching.ts";
import { Post, receipts } from "./receipts.ts";
import { recomputeAudit } from "./recompute.ts";
import { type Request, request, ridesIn } from "./rides.ts";

const RIDES = Number(process.env.RIDES || 1_000);
/** Each so many riders tap twice. */
const TWICE_EVERY = 10;
const DAY_MS = 24 * 60 * 60 * 1_000;

const rides = ridesIn(Date.now().toString(36));
const requested = Array.from({ length: RIDES }, (_, index) => request(index + 1));
const drivers = new Drivers();
const post = new Post();
const live = new AuditBook();
const progress = new Progress();
const say = (line: string): void => progress.say(line);

try {
  await main({
    matching: await fromUrl(process.env.MATCHING_URL || "memory:"),
    audit: await fromUrl(process.env.AUDIT_URL || "memory:"),
    receipts: await fromUrl(process.env.RECEIPTS_URL || "memory:"),
  });
} catch (error) {
  say(String(error));
  process.exitCode = 1;
}

async function main(adapters: Adapters): Promise<void> {
  const where = Object.entries(adapters).map(([name, adapter]) => `${name} on ${adapter.name}`);
  say(`${RIDES} rides (${rides.requests.name}): ${where.join(", ")}`);
  const again = await day(adapters);
  const recomputed = await recompute(adapters);
  const { closes, lines } = closeLedger({ requested, again, drivers, post, live, recomputed });
  say(`\nLedger after ${progress.seconds} s`);
  for (const line of lines) say(line);
  say(closes ? "the ledger closes: a driver, a receipt and an entry in the audit for each ride" : "it does not close");
  if (!closes) process.exitCode = 1;
}

/** A day of rides, live. Resolves with how many requests came twice. */
async function day(adapters: Adapters): Promise<number> {
  const office = new ContainerModule(({ bind }) => {
    bind(Drivers).toConstantValue(drivers);
    bind(Post).toConstantValue(post);
    bind(AuditBook).toConstantValue(live);
  });
  const container = await startDispatch(adapters, office, matching(rides), audit(rides), receipts(rides));
  try {
    const riders = container.get(publisherOf("matching"));
    const ask = (each: Request) => riders.send(rides.requests, each, { id: each.rideId });
    const twice = requested.filter((_, index) => index % TWICE_EVERY === 0);
    await Promise.all([...requested, ...twice].map(ask));
    const isDone = () => Math.min(drivers.rides, live.rides, post.letters.size) === RIDES;
    await until("every ride had its receipt", isDone, progress, soFar);
    return twice.length;
  } finally {
    // What still runs may finish, and tell the other brokers; then all three are closed.
    await container.unbindAllAsync();
  }
}

/** Undefined where the broker of the audit keeps nothing, and says so. */
async function recompute({ audit: adapter }: Adapters): Promise<AuditBook | undefined> {
  const yesterday = new Date(Date.now() - DAY_MS);
  try {
    const book = await recomputeAudit(adapter, rides, yesterday, (unfinished) =>
      until(
        "the audit was recomputed",
        () => unfinished.rides === RIDES,
        progress,
        () => `read ${unfinished.rides}`,
      ),
    );
    say(`the audit was rewound by a day, and recomputed from ${adapter.name}`);
    return book;
  } catch (error) {
    if (!isMessagingError(error, "unsupported")) throw error;
    say(`the audit cannot be recomputed here: ${error.message}`);
    return undefined;
  }
}

function soFar(): string {
  return `matched ${drivers.rides}  audited ${live.rides}  receipts ${post.letters.size}`;
}
