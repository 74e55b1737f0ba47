import { type Adapter, type Broker, createBroker, type Queue, queue } from "anybroker";
import { bridge } from "anybroker/migration";
import { internalsOf } from "../core/broker-internals.ts";
import { ORDER, type Order } from "./body.ts";
import { Heap } from "./heap.ts";
import { callsPerSecond, countdown } from "./measure.ts";

const MESSAGES = 100_000;
const CALLERS = 1_000;
const FILLED_AT_ONCE = 2_000;
/** What is asked for: of the slower side's own rate of publishing and consuming. */
const TARGET = 0.5;

/** A broker to bridge from or to. */
export interface Place {
  readonly name: string;
  readonly open: () => Adapter;
}

/** Moves 100,000 messages each way, and holds it against what the slower side does alone in the same run. */
export async function printBridges(ways: readonly (readonly [from: Place, to: Place])[]): Promise<string> {
  const own = new Map<Place, number>();
  const lines: string[] = [];
  for (const [from, to] of ways) {
    for (const place of [from, to]) if (!own.has(place)) own.set(place, await ownRate(place));
    const [slower] = [from, to].sort((one, other) => (own.get(one) ?? 0) - (own.get(other) ?? 0));
    const least = own.get(slower as Place) ?? 0;
    const { perSecond, heapMiB } = await bridged(from, to);
    const ratio = perSecond / least;
    const verdict = ratio >= TARGET ? "" : `, BELOW ${TARGET}`;
    const [before, highest, after] = heapMiB.map((mib) => mib.toFixed(0));
    lines.push(
      `  ${from.name} to ${to.name}: ${shown(perSecond)}/s, ${ratio.toFixed(2)} of the ${shown(least)}/s that ${slower?.name} publishes and consumes${verdict}; heap ${before} MiB before, at most ${highest}, ${after} after`,
    );
  }
  return [`bridge, ${shown(MESSAGES)} messages`, ...lines].join("\n");
}

function shown(count: number): string {
  return Math.round(count).toLocaleString("en");
}

let queues = 0;
const fresh = (): Queue<Order> => queue<Order>(`bench.migration.${process.pid}.${queues++}`);

/** Messages per second that are published and, at the same time, consumed. */
async function ownRate({ open }: Place): Promise<number> {
  const orders = fresh();
  const broker = createBroker(open());
  const round = countdown(MESSAGES);
  broker.consume(orders, async () => round.tick(), { concurrency: 500 });
  await broker.start();
  const begin = performance.now();
  await callsPerSecond(CALLERS, MESSAGES, () => broker.send(orders, ORDER));
  await round.done;
  const perSecond = (MESSAGES * 1_000) / (performance.now() - begin);
  await broker.stop();
  return perSecond;
}

async function bridged(
  from: Place,
  to: Place,
): Promise<{ readonly perSecond: number; readonly heapMiB: readonly number[] }> {
  const orders = fresh();
  const [old, next] = [from, to].map(({ open }) => createBroker(open(), { destinations: [orders] })) as [
    Broker,
    Broker,
  ];
  await Promise.all([old.start(), next.start()]);
  await fill(old, orders);
  const heap = new Heap();
  const begin = performance.now();
  let ended = begin;
  const { moved, end } = await bridge(old, next, {
    source: orders,
    onProgress: ({ moved }) => {
      // Until the last was moved; that nothing comes any more is known a little later.
      if (moved < MESSAGES) heap.look();
      else ended = Math.min(ended === begin ? Number.POSITIVE_INFINITY : ended, performance.now());
    },
  }).run();
  if (end !== "drained" || moved !== MESSAGES) throw new Error(`${moved} were moved, and it ${end}`);
  const perSecond = (MESSAGES * 1_000) / (ended - begin - heap.pausedMs);
  const heapMiB = heap.report();
  await Promise.all([old.stop(), next.stop()]);
  return { perSecond, heapMiB };
}

async function fill(broker: Broker, orders: Queue<Order>): Promise<void> {
  const { sendCopy, makeId } = internalsOf(broker, "fill");
  const body = Buffer.from(JSON.stringify(ORDER));
  const headers = Object.freeze(Object.create(null) as Record<string, string>);
  for (let sent = 0; sent < MESSAGES; sent += FILLED_AT_ONCE) {
    const batch = Array.from({ length: FILLED_AT_ONCE }, () =>
      sendCopy({ kind: "queue", name: orders.name }, false, {
        id: makeId(),
        headers,
        body,
        contentType: "application/json",
        size: body.length,
        priority: 0,
        delayMs: 0,
        ttlMs: undefined,
        key: undefined,
        routingKey: undefined,
      }),
    );
    await Promise.all(batch);
  }
}
