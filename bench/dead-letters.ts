import { type Adapter, createBroker, type Queue, queue } from "anybroker";
import { HEADER, type OutgoingMessage } from "anybroker/adapter";
import { deadLetters } from "anybroker/dead-letters";
import { internalsOf } from "../core/broker-internals.ts";
import { headerBytes } from "../core/system-headers.ts";
import { ORDER, type Order } from "./body.ts";
import { Heap } from "./heap.ts";

const LETTERS = 100_000;
const PAGE = 100;
const SENT_AT_ONCE = 1_000;
const SAMPLE_EVERY = 5_000;

/** What working on 100,000 dead letters takes: entries per second, and how far the heap rises while it goes on. */
export interface DeadLettersReport {
  readonly verb: string;
  readonly perSecond: number;
  /** The heap before, and the highest and the last one while it went on, collected first, in MiB. */
  readonly heapMiB: readonly [before: number, highest: number, after: number];
}

/** Lists, groups and sends back 100,000 dead letters. Needs `--expose-gc`. */
export async function deadLettersAt(adapter: Adapter, name: string): Promise<readonly DeadLettersReport[]> {
  const orders: Queue<Order> = queue<Order>(name);
  const broker = createBroker(adapter, { destinations: [orders] });
  await broker.start();
  await bury(broker, orders);
  const dead = deadLetters(broker, orders, { patienceMs: 60_000 });
  const reports: DeadLettersReport[] = [];
  const measured = async (verb: string, work: (tick: () => void) => Promise<number>): Promise<void> => {
    const heap = new Heap();
    let ticks = 0;
    const begin = performance.now();
    const count = await work(() => {
      if (++ticks % SAMPLE_EVERY === 0) heap.look();
    });
    const perSecond = (count * 1_000) / (performance.now() - begin - heap.pausedMs);
    reports.push({ verb, perSecond, heapMiB: heap.report() });
  };
  await measured("list, all in one go", async (tick) => {
    let count = 0;
    for await (const _ of dead.entries()) {
      count++;
      tick();
    }
    return count;
  });
  await measured(`list, a page of ${PAGE}`, async () => {
    const { entries } = await dead.list({ limit: PAGE });
    if (entries.length !== PAGE) throw new Error(`the page has ${entries.length} entries`);
    return LETTERS;
  });
  await measured("groups", async () => {
    const { groups } = await dead.groups();
    return groups.reduce((sum, { count }) => sum + count, 0);
  });
  const { plan, run } = await dead.replay("all");
  if (plan.count !== LETTERS) throw new Error(`the plan has ${plan.count} entries`);
  await measured("replay", async (tick) => {
    const { done } = await run({ onProgress: tick });
    return done;
  });
  const { ready } = await broker.depth(orders);
  const { count } = await dead.count();
  if (ready !== LETTERS || count !== 0) throw new Error(`${ready} were sent back, and ${count} are left`);
  await broker.stop();
  return reports;
}

async function bury(broker: ReturnType<typeof createBroker>, orders: Queue<Order>): Promise<void> {
  const { sendCopy, makeId } = internalsOf(broker, "bury");
  const body = Buffer.from(JSON.stringify(ORDER));
  const of = { kind: "dead-letters", of: { kind: "queue", name: orders.name } } as const;
  for (let sent = 0; sent < LETTERS; sent += SENT_AT_ONCE) {
    const batch = Array.from({ length: SENT_AT_ONCE }, (_, n) => letter(makeId(), sent + n, body));
    await Promise.all(batch.map((message) => sendCopy(of, false, message)));
  }
}

function letter(id: string, n: number, body: Uint8Array): OutgoingMessage {
  const at = new Date(Date.UTC(2026, 0, 1) + n).toISOString();
  const headers = Object.assign(Object.create(null) as Record<string, string>, {
    [HEADER.deadReason]: "attempts",
    [HEADER.deadErrorClass]: n % 3 === 0 ? "CardError" : "TypeError",
    [HEADER.deadError]: `order ${n} was refused after ${n % 1_000} ms`,
    [HEADER.deadAttempts]: "5",
    [HEADER.deadFirstAt]: at,
    [HEADER.deadLastAt]: at,
  });
  const size = body.length + headerBytes(headers);
  const rest = { priority: 0, delayMs: 0, ttlMs: undefined, key: undefined, routingKey: undefined } as const;
  return { id, headers, body, contentType: "application/json", size, ...rest };
}

/** The reports as text. */
export function printDeadLetters(broker: string, reports: readonly DeadLettersReport[]): string {
  const lines = reports.map(({ verb, perSecond, heapMiB }) => {
    const [before, highest, after] = heapMiB.map((mib) => mib.toFixed(0));
    return `  ${verb.padEnd(22)} ${Math.round(perSecond).toLocaleString("en").padStart(9)}/s   heap ${before} MiB before, at most ${highest}, ${after} after`;
  });
  return [`${LETTERS.toLocaleString("en")} dead letters on ${broker}`, ...lines].join("\n");
}
