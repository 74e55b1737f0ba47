import assert from "node:assert/strict";
import type { Broker } from "../../core/broker.ts";
import { type Destination, subscription } from "../../core/destination.ts";
import type { ConformanceCase } from "../case.ts";
import type { CaseContext } from "../context.ts";
import { allEffected, drained, judge, judgeClean } from "../judge.ts";
import { callers, mustSucceed, publish, sendAll } from "../publishing.ts";
import { supports } from "../refusals.ts";
import { WorkerProcess } from "../workers/worker-process.ts";
import { changedFilter } from "./changed-filter.ts";
import { namesCase } from "./names.ts";
import { works } from "./works.ts";

async function competing(context: CaseContext): Promise<void> {
  const orders = context.queue("orders");
  const broker = await context.started({ destinations: [orders] });
  // Handlers wait until each consumer has a message.
  if (context.harness.processes === undefined) {
    await competingBrokers(context, broker);
    context.note("the consumers are in one process: the harness has no `processes`");
    return;
  }
  const { processes } = context.harness;
  const workers = await Promise.all(
    [1, 2, 3].map(() => WorkerProcess.consume(context, processes, { queue: orders.name, behaviour: "gate" })),
  );
  await sendAll(context, broker, orders, works(300));
  await context.until("every process to have a message", () => workers.every(({ starts }) => starts > 0));
  for (const worker of workers) worker.openGate();
  await judgeClean(context, broker, orders);
}

async function competingBrokers(context: CaseContext, publisher: Broker): Promise<void> {
  const orders = context.queue("orders");
  const gate = Promise.withResolvers<void>();
  const shares = [0, 0, 0];
  for (const index of shares.keys()) {
    const handler = async (): Promise<void> => {
      shares[index] = (shares[index] ?? 0) + 1;
      await gate.promise;
    };
    await context.started({}, (one) => one.consume(orders, handler, { concurrency: 2, prefetch: { messages: 5 } }));
  }
  await sendAll(context, publisher, orders, works(300));
  await context.until("every consumer to have a message", () => shares.every((share) => share > 0));
  gate.resolve();
  await judgeClean(context, publisher, orders);
}

async function fanOut(context: CaseContext): Promise<void> {
  if (!(await supports(context, "fanOut"))) return;
  const first = context.topic("first");
  const second = context.topic("second");
  const gate = Promise.withResolvers<void>();
  const shares = [0, 0];
  for (const index of shares.keys()) {
    const handler = async (): Promise<void> => {
      shares[index] = (shares[index] ?? 0) + 1;
      await gate.promise;
    };
    const options = { concurrency: 2, prefetch: { messages: 5 } };
    await context.started({}, (one) => one.subscribe(first, "shared", handler, options));
  }
  const broker = await context.started({}, (one) => {
    one.subscribe(first, "alone", () => {});
    one.subscribe(second, "shared", () => {});
  });
  await callers(100, 20, async (n) => mustSucceed(await publish(context, broker, first, ["shared", "alone"], { n })));
  await callers(50, 20, async (n) => mustSucceed(await publish(context, broker, second, ["shared"], { n })));
  await context.until("both consumers of the subscription to have an event", () => shares.every((share) => share > 0));
  gate.resolve();
  await allEffected(context);
  // Misrouted events come before these.
  mustSucceed(await publish(context, broker, first, ["shared", "alone"], { n: 100 }));
  mustSucceed(await publish(context, broker, second, ["shared"], { n: 50 }));
  await allEffected(context);
  await drained(context, broker, first, "shared");
  await drained(context, broker, first, "alone");
  await drained(context, broker, second, "shared");
  judge(context);
  assert.equal(context.ledger.effects(`${first.name}..shared`), 101);
  assert.equal(context.ledger.effects(`${first.name}..alone`), 101);
  assert.equal(context.ledger.effects(`${second.name}..shared`), 51);
}

async function neverMissed(context: CaseContext): Promise<void> {
  if (!(await supports(context, "fanOut"))) return;
  const placed = context.topic("placed");
  const publisher = await context.started({ destinations: [placed, subscription(placed, "late")] });
  const publishAll = (subscriptions: string[]): Promise<void> =>
    callers(50, 10, async (n) => mustSucceed(await publish(context, publisher, placed, subscriptions, { n })));
  await publishAll(["late"]);
  // Its own consumer declares it: it gets events from the moment at which start() resolves.
  await context.started({}, (one) => one.subscribe(placed, "prompt", () => {}));
  await publishAll(["late", "prompt"]);
  await context.started({}, (one) => one.subscribe(placed, "late", () => {}));
  await publishAll(["late", "prompt"]);
  await allEffected(context);
  judge(context);
}

async function oldMessages(context: CaseContext): Promise<void> {
  if (!(await supports(context, "rewind"))) return;
  const placed = context.topic("placed");
  const broker = await context.started({ destinations: [placed, subscription(placed, "first")] });
  const names = ["first", "from-earliest"];
  await callers(30, 10, async (n) => mustSucceed(await publish(context, broker, placed, names, { n })));
  await context.started({}, (one) => one.subscribe(placed, "from-earliest", () => {}, { from: "earliest" }));
  await context.started({}, (one) => one.subscribe(placed, "from-now", () => {}));
  await context.started({}, (one) => one.subscribe(placed, "first", () => {}));
  const all = [...names, "from-now"];
  await callers(30, 10, async (n) => mustSucceed(await publish(context, broker, placed, all, { n })));
  await allEffected(context);
  judge(context);
}

async function manyConsumers(context: CaseContext): Promise<void> {
  const orders = context.queue("orders");
  const broker = await context.started({ consume: { concurrency: 2, prefetch: { messages: 20 } } }, (one) => {
    for (let consumer = 0; consumer < 50; consumer++) one.consume(orders, () => {});
  });
  await sendAll(context, broker, orders, works(5_000));
  await judgeClean(context, broker, orders);
}

async function manyDestinations(context: CaseContext): Promise<void> {
  const queues = Array.from({ length: 20 }, (_, index) => context.queue(`orders-${index}`));
  const destinations: Destination[] = [...queues];
  const broker = await context.started({ destinations }, (one) => {
    for (const each of queues) one.consume(each, () => {});
  });
  await Promise.all(queues.map((each) => sendAll(context, broker, each, works(100))));
  await judgeClean(context, broker, ...queues);
}

/** Which filters match which routing key. */
const ROUTES: readonly (readonly [routingKey: string | undefined, filters: readonly string[]])[] = [
  ["geo.us.ny", ["#", "geo.us.*.#", "geo.#", "*.us.ny", "geo.us.ny"]],
  ["geo.us.ny.manhattan", ["#", "geo.us.*.#", "geo.#"]],
  ["geo.us", ["#", "geo.#"]],
  ["geo", ["#", "geo.#"]],
  ["geography.us.ny", ["#", "*.us.ny"]],
  ["eu.geo.us.ny", ["#"]],
  ["GEO.us.ny", ["#", "*.us.ny"]],
  ["geo.eu.fr.paris", ["#", "geo.#"]],
  [undefined, ["#"]],
];
const FILTERS = ["#", "geo.us.*.#", "geo.#", "*.us.ny", "geo.us.ny"];

async function routingFilter(context: CaseContext): Promise<void> {
  if (!(await supports(context, "routingFilter"))) return;
  const places = context.topic("places");
  const nameOf = (filter: string): string => `filter-${FILTERS.indexOf(filter)}`;
  const broker = await context.started({}, (one) => {
    for (const filter of FILTERS) one.subscribe(places, nameOf(filter), () => {}, { filter });
    one.subscribe(places, "unfiltered", () => {});
  });
  for (let n = 0; n < 5; n++) {
    for (const [routingKey, filters] of ROUTES) {
      const names = [...filters.map(nameOf), "unfiltered"];
      const options = routingKey === undefined ? {} : { routingKey };
      mustSucceed(await publish(context, broker, places, names, { n }, options));
    }
  }
  // The last event matches all filters: wrongly matched events come before it.
  const all = [...FILTERS.map(nameOf), "unfiltered"];
  mustSucceed(await publish(context, broker, places, all, { n: 5 }, { routingKey: "geo.us.ny" }));
  await allEffected(context);
  for (const name of all) await drained(context, broker, places, name);
  judge(context);
}

async function rewind(context: CaseContext): Promise<void> {
  if (!(await supports(context, "rewind"))) return;
  const placed = context.topic("placed");
  const broker = await context.started({ destinations: [placed, subscription(placed, "first")] });
  await callers(20, 5, async (n) => mustSucceed(await publish(context, broker, placed, ["first"], { n })));
  const lastOldAt = Date.now();
  await context.until("the clock to move on", () => Date.now() > lastOldAt + 1);
  const from = new Date();
  await callers(20, 5, async (n) => mustSucceed(await publish(context, broker, placed, ["first", "rewound"], { n })));
  await context.started({}, (one) => {
    one.subscribe(placed, "rewound", () => {}, { from });
    one.subscribe(placed, "first", () => {});
  });
  await allEffected(context);
  judge(context);
}

export const delivery: readonly ConformanceCase[] = [
  { number: "6", title: "queue: consumers in several processes, one of them handles each message", run: competing },
  {
    number: "7",
    title: "topic: every subscription gets all events, its consumers share them, topics are isolated",
    needsTopics: true,
    run: fanOut,
  },
  namesCase,
  {
    number: "8a",
    title: "a subscription misses no event that is published after its declaration",
    needsTopics: true,
    run: neverMissed,
  },
  { number: "8b", title: "a later subscription gets old events only with the capability `rewind`", run: oldMessages },
  { number: "9a", title: "5,000 messages × 50 consumers", run: manyConsumers },
  { number: "9b", title: "20 destinations × 100 messages", run: manyDestinations },
  { number: "10a", title: "routing filter: exactly the matching events", needsTopics: true, run: routingFilter },
  { number: "10b", title: "rewind to a time", run: rewind },
  ...changedFilter,
];
