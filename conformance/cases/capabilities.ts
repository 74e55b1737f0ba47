import assert from "node:assert/strict";
import { CAPABILITY_NAMES } from "../../core/capabilities.ts";
import type { Delivery } from "../../core/delivery.ts";
import { type Destination, subscription } from "../../core/destination.ts";
import { HEADER } from "../../core/system-headers.ts";
import type { ConformanceCase } from "../case.ts";
import type { CaseContext, Work } from "../context.ts";
import { allEffected, drained, judge, judgeClean } from "../judge.ts";
import { mustSucceed, send, sendAll } from "../publishing.ts";
import { failureOf, refusesAtStart } from "../refusals.ts";
import { works } from "./works.ts";

async function required(context: CaseContext): Promise<void> {
  const { capabilities } = context;
  const has = CAPABILITY_NAMES.filter((name) => capabilities[name].support !== "unsupported");
  const lacks = CAPABILITY_NAMES.filter((name) => capabilities[name].support === "unsupported");
  await context.started({ require: has });
  for (const name of lacks) await refusesAtStart(context, name, { require: [name] });
  for (const name of CAPABILITY_NAMES) assert.notEqual(capabilities[name].note, "", `${name} has no note`);
  if (lacks.length > 0) context.note(`refused as declared: ${lacks.join(", ")}`);
}

/** Every way in which a destination can ask for a capability, tried on adapters that do not have it. */
async function askedByDestinations(context: CaseContext): Promise<void> {
  const { capabilities } = context;
  const placed = context.topic("placed");
  const asks: [capability: (typeof CAPABILITY_NAMES)[number], what: string, destination: () => Destination][] = [
    ["order", "order", () => context.queue("ordered", { ordered: true })],
    ["priority", "priorit", () => context.queue("prioritised", { priorities: 3 })],
    ["ttl", "ttl", () => context.queue("expiring", { ttlMs: 1_000 })],
    ["durable", "durable", () => context.queue("durable", { durable: true })],
    ["fanOut", "fanOut", () => subscription(placed, "any")],
    ["routingFilter", "filter", () => subscription(placed, "filtered", { filter: "geo.#" })],
    ["rewind", "rewind", () => subscription(placed, "replayed", { from: "earliest" })],
    ["rewind", "rewind", () => subscription(placed, "rewound", { from: new Date() })],
  ];
  const tried: string[] = [];
  for (const [capability, named, destination] of asks) {
    if (capabilities[capability].support !== "unsupported") continue;
    await refusesAtStart(context, named, { destinations: [destination()] });
    tried.push(capability);
  }
  if (capabilities.priority.support !== "unsupported" && capabilities.priority.levels < 32) {
    const many = context.queue("many", { priorities: capabilities.priority.levels + 1 });
    await refusesAtStart(context, "priorit", { destinations: [many] });
    tried.push(`more than ${capabilities.priority.levels} priorities`);
  }
  if (tried.length === 0) context.note("there is nothing that a destination can ask for and the adapter lacks");
  else context.refused(tried.join(", "));
}

async function askedBySends(context: CaseContext): Promise<void> {
  const { capabilities } = context;
  const orders = context.queue("orders");
  const broker = await context.started({}, (one) => one.consume(orders, () => {}));
  const options = { delay: { delayMs: 10 }, ttl: { ttlMs: 60_000 }, priority: { priority: 1 } };
  const tried: string[] = [];
  for (const name of ["delay", "ttl", "priority"] as const) {
    if (capabilities[name].support !== "unsupported") continue;
    const failure = await send(context, broker, orders, { n: 1 }, options[name]);
    assert.equal(failure?.code, "unsupported", `${name}: ${failure?.message ?? "sent"}`);
    tried.push(name);
  }
  mustSucceed(await send(context, broker, orders, { n: 2 }));
  await judgeClean(context, broker, orders);
  if (tried.length === 0) context.note("there is nothing that a send can ask for and the adapter lacks");
  else context.refused(tried.join(", "));
}

async function delayedSend(context: CaseContext): Promise<void> {
  const { delay } = context.capabilities;
  if (delay.support === "unsupported") return context.refused(`delay: ${delay.note} (tried in K3)`);
  const orders = context.queue("orders");
  const due = new Map<string, number>();
  const early: string[] = [];
  const handler = (_: Work, { id, attempt }: Delivery): void => {
    const earlyMs = (due.get(id) ?? 0) - performance.now();
    if (earlyMs > 0) early.push(`${id} by ${earlyMs.toFixed(1)} ms`);
    assert.equal(attempt, 1, "waiting was counted as an attempt");
  };
  const broker = await context.started({}, (one) => one.consume(orders, handler));
  const ids = works(40).map(() => context.id());
  const delays = ids.map(() => 50 + Math.floor(context.random() * 1_000));
  await sendAll(context, broker, orders, works(40), (n) => {
    const [id = "", delayMs = 0] = [ids[n], delays[n]];
    due.set(id, performance.now() + delayMs);
    return { id, delayMs };
  });
  // What is not delayed passes them by.
  mustSucceed(await send(context, broker, orders, { n: 100 }));
  await judgeClean(context, broker, orders);
  assert.deepEqual(early, [], "delayed messages came before they were due");
}

async function priorities(context: CaseContext): Promise<void> {
  const { priority } = context.capabilities;
  if (priority.support === "unsupported") return context.refused(`priority: ${priority.note} (tried in K2)`);
  const levels = Math.min(priority.levels, 3);
  const orders = context.queue("orders", { priorities: levels });
  const broker = context.broker({ destinations: [orders] });
  const failure = await failureOf(broker.start());
  // What a broker can do may depend on the version of its server, which an adapter learns when it connects.
  const tooOld = failure?.problems.find(({ code, message }) => code === "unsupported" && /priorit/i.test(message));
  if (tooOld !== undefined) return context.refused(`priority: ${tooOld.message}`);
  if (failure !== undefined) throw failure;
  const handled: number[] = [];
  const gate = Promise.withResolvers<void>();
  const handler = async ({ n }: Work): Promise<void> => {
    await gate.promise;
    handled.push(n);
  };
  for (let level = 0; level < levels; level++) {
    for (let n = 0; n < 20; n++) mustSucceed(await send(context, broker, orders, { n: level }, { priority: level }));
  }
  broker.consume(orders, handler, { concurrency: 1, prefetch: { messages: 1 } });
  gate.resolve();
  await judgeClean(context, broker, orders);
  const wanted = [...handled].sort((a, b) => b - a);
  assert.deepEqual(handled, wanted, "a lower priority was handled before a higher one");
}

async function timeToLive(context: CaseContext): Promise<void> {
  const { ttl } = context.capabilities;
  if (ttl.support === "unsupported") return context.refused(`ttl: ${ttl.note} (tried in K2)`);
  const orders = context.queue("orders");
  const broker = await context.started({ destinations: [orders] });
  const graves = await context.deadLetters(orders);
  const expiring = works(10).map(() => context.id());
  await sendAll(context, broker, orders, works(10), (n) => ({
    id: expiring[n] ?? "",
    ttlMs: 50,
    headers: { n: `${n}` },
  }));
  await sendAll(context, broker, orders, works(10), () => ({ ttlMs: 600_000 }));
  await sendAll(context, broker, orders, works(10));
  const sent = performance.now();
  await context.until("the time to live to pass", () => performance.now() - sent > 100);
  broker.consume(orders, () => {});
  await context.until("the others to be handled", () => context.ledger.effects(orders.name) === 20);
  await graves.until(10);
  await drained(context, broker, orders);
  const dead = await graves.all();
  // A copy whose confirmation was late may be there twice, under one id.
  assert.deepEqual([...new Set(dead.map(({ id }) => id))].sort(), [...expiring].sort());
  for (const { id, headers } of dead) {
    assert.equal(headers[HEADER.deadReason], "expired");
    assert.equal(headers.n, String(expiring.indexOf(id)));
    assert.equal(context.ledger.starts(orders.name, id), 0, "an expired message was handled");
  }
  await allEffected(context);
  judge(context);
}

export const capabilities: readonly ConformanceCase[] = [
  { number: "K1", title: "what is required and declared unsupported is refused at start, by name", run: required },
  {
    number: "K2",
    title: "what a destination asks for and the adapter lacks is refused at start",
    run: askedByDestinations,
  },
  { number: "K3", title: "what a send asks for and the adapter lacks is refused", run: askedBySends },
  { number: "K4", title: "a delayed send is never early and no attempt", run: delayedSend },
  { number: "K5", title: "a higher priority overtakes", run: priorities },
  { number: "K6", title: "what is too old goes to the dead letters, unhandled", run: timeToLive },
];
