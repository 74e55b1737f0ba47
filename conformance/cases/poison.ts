import assert from "node:assert/strict";
import type { IncomingMessage } from "../../core/adapter.ts";
import { type Delivery, deadLetter } from "../../core/delivery.ts";
import { HEADER } from "../../core/system-headers.ts";
import type { CaseContext, Work } from "../context.ts";
import { allEffected, drained, judge } from "../judge.ts";
import { callers, mustSucceed, publish, send, sendAll } from "../publishing.ts";
import { works } from "./works.ts";

const ATTEMPTS = 3;
const LONGEST_ERROR = 1_024;
const POLICY = { attempts: ATTEMPTS, delay: { firstMs: 20, factor: 1 } };
const HEADERS = { colour: "blue", city: "Zürich" };

class PoisonError extends Error {
  override readonly name = "PoisonError";
}

/** A message that always fails, one that its handler dead-letters, and many others. */
export async function poison(context: CaseContext): Promise<void> {
  const { withoutTopics } = context.harness;
  await onAQueue(context);
  if (withoutTopics === undefined) await onASubscription(context);
  else context.note(`a subscription was not tested: ${withoutTopics}`);
}

async function onAQueue(context: CaseContext): Promise<void> {
  const orders = context.queue("orders");
  const [failing, refused] = [context.id(), context.id()];
  const handler = (body: Work, { id }: Delivery) => {
    if (id === refused) return deadLetter("an order needs a total");
    if (body.poison) throw new PoisonError(`bad ${"x".repeat(5_000)}`);
  };
  const broker = await context.started({}, (one) => one.consume(orders, handler, { retry: POLICY }));
  const deadLetters = await context.deadLetters(orders);
  const before = Date.now();
  const options = { headers: HEADERS, key: "k1" };
  mustSucceed(await send(context, broker, orders, { n: 0, poison: true }, { ...options, id: failing }));
  mustSucceed(await send(context, broker, orders, { n: 1 }, { ...options, id: refused }));
  await sendAll(context, broker, orders, works(50));
  await context.until("the others to be handled", () => context.ledger.effects(orders.name) === 50);
  await deadLetters.until(2);
  await drained(context, broker, orders);
  const dead = await deadLetters.all();
  assert.deepEqual(dead.map(({ id }) => id).sort(), [failing, refused].sort());
  for (const message of dead) {
    checkHeaders(message, { origin: ["queue", orders.name], before });
    assert.equal(message.key, "k1");
    assert.deepEqual(
      JSON.parse(Buffer.from(message.body).toString()),
      message.id === failing ? { n: 0, poison: true } : { n: 1 },
    );
  }
  const [failed, rejected] = [failing, refused].map((id) => dead.find((message) => message.id === id)?.headers ?? {});
  assert.equal(failed?.[HEADER.deadReason], "attempts");
  assert.equal(failed?.[HEADER.deadAttempts], String(ATTEMPTS));
  assert.equal(failed?.[HEADER.deadErrorClass], "PoisonError");
  assert.match(failed?.[HEADER.deadError] ?? "", /^bad x+/);
  assert.equal(rejected?.[HEADER.deadReason], "rejected");
  assert.match(rejected?.[HEADER.deadError] ?? "", /an order needs a total/);
  assert.equal(context.ledger.starts(orders.name, failing), ATTEMPTS);
  assert.equal(context.ledger.starts(orders.name, refused), 1);
  judge(context);
}

async function onASubscription(context: CaseContext): Promise<void> {
  if (context.capabilities.fanOut.support === "unsupported") return;
  const placed = context.topic("placed");
  const id = context.id();
  const before = Date.now();
  const failing = (body: Work): void => {
    if (body.poison) throw new PoisonError("bad");
  };
  const broker = await context.started({}, (one) => {
    one.subscribe(placed, "billing", failing, { retry: POLICY });
    one.subscribe(placed, "audit", () => {});
  });
  const deadLetters = await context.deadLetters(placed, "billing");
  const others = await context.deadLetters(placed, "audit");
  const both = ["billing", "audit"];
  mustSucceed(await publish(context, broker, placed, both, { n: 0, poison: true }, { id, headers: HEADERS }));
  await callers(20, 5, async (n) => mustSucceed(await publish(context, broker, placed, both, { n })));
  await deadLetters.until(1);
  await context.until("the others to be handled", () => context.ledger.effects(`${placed.name}..billing`) === 20);
  await drained(context, broker, placed, "billing");
  const [message, ...more] = await deadLetters.all();
  assert.ok(message !== undefined && more.length === 0 && message.id === id);
  checkHeaders(message, { origin: ["subscription", placed.name, "billing"], before });
  assert.equal(context.ledger.starts(`${placed.name}..billing`, id), ATTEMPTS);
  await allEffected(context);
  assert.deepEqual(await others.all(), [], "it is also in another subscription's dead letters");
  judge(context);
}

function checkHeaders(message: IncomingMessage, wanted: { origin: readonly string[]; before: number }): void {
  const { headers } = message;
  for (const [name, value] of Object.entries(HEADERS)) assert.equal(headers[name], value, `the header ${name}`);
  for (const part of wanted.origin) {
    assert.ok(headers[HEADER.deadOrigin]?.includes(part), `the origin "${headers[HEADER.deadOrigin]}" lacks ${part}`);
  }
  assert.ok((headers[HEADER.deadError]?.length ?? 0) <= LONGEST_ERROR);
  const first = Date.parse(headers[HEADER.deadFirstAt] ?? "");
  const last = Date.parse(headers[HEADER.deadLastAt] ?? "");
  assert.ok(first >= wanted.before && first <= last && last <= Date.now(), `failed from ${first} to ${last}`);
}
