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

/** Every option of a destination that asks for a capability which the adapter lacks. */
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
  const tested: string[] = [];
  for (const [capability, named, destination] of asks) {
    if (capabilities[capability].support !== "unsupported") continue;
    await refusesAtStart(context, named, { destinations: [destination()] });
    tested.push(capability);
  }
  if (capabilities.priority.support !== "unsupported" && capabilities.priority.levels < 32) {
    const many = context.queue("many", { priorities: capabilities.priority.levels + 1 });
    await refusesAtStart(context, "priorit", { destinations: [many] });
    tested.push(`more than ${capabilities.priority.levels} priorities`);
  }
  if (tested.length === 0) context.note("the adapter lacks nothing that a destination can ask for");
  else context.refused(tested.join(", "));
}

async function askedBySends(context: CaseContext): Promise<void> {
  const { capabilities } = context;
  const orders = context.queue("orders");
  const broker = await context.started({}, (one) => one.consume(orders, () => {}));
  const options = { delay: { delayMs: 10 }, ttl: { ttlMs: 60_000 }, priority: { priority: 1 } };
  const tested: string[] = [];
  for (const name of ["delay", "ttl", "priority"] as const) {
    if (capabilities[name].support !== "unsupported") continue;
    const failure = await send(context, broker, orders, { n: 1 }, options[name]);
    assert.equal(failure?.code, "unsupported", `${name}: ${failure?.message ?? "sent"}`);
    tested.push(name);
  }
  mustSucceed(await send(context, broker, orders, { n: 2 }));
  await judgeClean(context, broker, orders);
  if (tested.length === 0) context.note("the adapter lacks nothing that a send can ask for");
  else context.refused(tested.join(", "));
}

async function delayedSend(context: CaseContext): Promise<void> {
  const { delay } = context.capabilities;
  if (delay.support === "unsupported") return context.refused(`delay: ${delay.note} (tested in K3)`);
  const orders = context.queue("orders");
  const due = new Map<string, number>();
  const early: string[] = [];
  const handler = (_: Work, { id, attempt }: Delivery): void => {
    const earlyMs = (due.get(id) ?? 0) - performance.now();
    if (earlyMs > 0) early.push(`${id} by ${earlyMs.toFixed(1)} ms`);
    assert.equal(attempt, 1, "the delay counted as an attempt");
  };
  const broker = await context.started({}, (one) => one.consume(orders, handler));
  const ids = works(40).map(() => context.id());
  const delays = ids.map(() => 50 + Math.floor(context.random() * 1_000));
  await sendAll(context, broker, orders, works(40), (n) => {
    const [id = "", delayMs = 0] = [ids[n], delays[n]];
    due.set(id, performance.now() + delayMs);
    return { id, delayMs };
  });
  // A message without a delay overtakes them.
  mustSucceed(await send(context, broker, orders, { n: 100 }));
  await judgeClean(context, broker, orders);
  assert.deepEqual(early, [], "delayed messages came before they were due");
}

async function priorities(context: CaseContext): Promise<void> {
  const { priority } = context.capabilities;
  if (priority.support === "unsupported") return context.refused(`priority: ${priority.note} (tested in K2)`);
  const levels = Math.min(priority.levels, 3);
  const orders = context.queue("orders", { priorities: levels });
  const broker = context.broker({ destinations: [orders] });
  const failure = await failureOf(broker.start());
  // Capabilities may depend on the server's version, which the adapter learns when it connects.
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
  if (ttl.support === "unsupported") return context.refused(`ttl: ${ttl.note} (tested in K2)`);
  const orders = context.queue("orders");
  const broker = await context.started({ destinations: [orders] });
  const deadLetters = await context.deadLetters(orders);
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
  await deadLetters.until(10);
  await drained(context, broker, orders);
  const dead = await deadLetters.all();
  // A copy whose confirm was late may be stored twice, with one id.
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
  { number: "K1", title: "a required capability that is unsupported is refused at start, by name", run: required },
  {
    number: "K2",
    title: "an option of a destination that is unsupported is refused at start",
    run: askedByDestinations,
  },
  { number: "K3", title: "an option of a send that is unsupported is refused", run: askedBySends },
  { number: "K4", title: "a delayed send is never early and uses no attempt", run: delayedSend },
  { number: "K5", title: "a higher priority overtakes", run: priorities },
  { number: "K6", title: "expired messages are dead-lettered unhandled", run: timeToLive },
];
