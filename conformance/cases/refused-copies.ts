import assert from "node:assert/strict";
import type { IncomingMessage } from "../../core/adapter.ts";
import type { Broker } from "../../core/broker.ts";
import type { Delivery } from "../../core/delivery.ts";
import { HEADER } from "../../core/system-headers.ts";
import type { ConformanceCase } from "../case.ts";
import type { CaseContext, Work } from "../context.ts";
import { isRetry, type Refusal, type RefusedCopies, refuseCopies } from "../decorators/refuse-copies.ts";
import { allEffected, drained, judge, judgeClean } from "../judge.ts";
import { mustSucceed, send, sendAll } from "../publishing.ts";
import { supports } from "../refusals.ts";
import { works } from "./works.ts";

const ONCE = { attempts: 1 };
const HEADERS = { colour: "blue", city: "Oslo" };
/** Longer than any case: a stop that waits for it fails. */
const FOREVER_MS = 3_600_000;

function failOnPoison({ poison }: Work): void {
  if (poison) throw new Error("poison");
}

function bodyOf({ body }: IncomingMessage): unknown {
  return JSON.parse(Buffer.from(body).toString());
}

/** A consumer whose copies are refused. */
async function startRefused(context: CaseContext, refusal: Refusal, consume: (broker: Broker) => unknown) {
  const refusing: RefusedCopies<unknown> = refuseCopies(context.harness.adapter(), refusal);
  const broker = await context.started({}, consume, refusing.adapter);
  return { broker, refusing };
}

async function headersAreCut(context: CaseContext): Promise<void> {
  const orders = context.queue("orders");
  const refusal: Refusal = ({ kind }, { headers }) =>
    kind === "dead-letters" && headers.colour !== undefined ? "too-large" : undefined;
  const { broker } = await startRefused(context, refusal, (one) => one.consume(orders, failOnPoison, { retry: ONCE }));
  const deadLetters = await context.deadLetters(orders);
  const id = context.id();
  mustSucceed(await send(context, broker, orders, { n: 0, poison: true }, { id, headers: HEADERS }));
  await sendAll(context, broker, orders, works(20));
  await deadLetters.until(1);
  await drained(context, broker, orders);
  const [message, ...more] = await deadLetters.all();
  assert.ok(
    message !== undefined && more.length === 0 && message.id === id,
    "it is not in the dead letters exactly once",
  );
  assert.deepEqual(bodyOf(message), { n: 0, poison: true });
  const { headers } = message;
  assert.equal(headers.colour, undefined);
  for (const name of Object.keys(HEADERS))
    assert.ok(headers[HEADER.cut]?.includes(name), `the cut of "${name}" is not recorded`);
  assert.equal(headers[HEADER.deadReason], "attempts");
  assert.equal(headers[HEADER.deadAttempts], "1");
  await allEffected(context);
  judge(context);
}

async function bodyDoesNotFit(context: CaseContext): Promise<void> {
  const orders = context.queue("orders");
  const refusal: Refusal = ({ kind }) => (kind === "dead-letters" ? "too-large" : undefined);
  let consumer: { resume(): void } | undefined;
  const { broker, refusing } = await startRefused(context, refusal, (one) => {
    consumer = one.consume(orders, failOnPoison, { retry: ONCE, concurrency: 2, prefetch: { messages: 5 } });
  });
  const deadLetters = await context.deadLetters(orders);
  const ids = Array.from({ length: 6 }, () => context.id());
  for (const id of ids) {
    mustSucceed(await send(context, broker, orders, { n: 0, poison: true }, { id, headers: HEADERS }));
  }
  await sendAll(context, broker, orders, works(20));
  const { withoutOwnDeadLettering } = context.harness;
  if (withoutOwnDeadLettering !== undefined) {
    await parked(context, broker, ids, "too-large");
    context.note(`parked: ${withoutOwnDeadLettering}`);
    refusing.allow();
    consumer?.resume();
  }
  await deadLetters.until(6);
  await drained(context, broker, orders);
  const dead = await deadLetters.all();
  assert.deepEqual(
    dead.map((message) => message.id).sort(),
    [...ids].sort(),
    "the dead letters are not exactly these messages",
  );
  for (const letter of dead) {
    const message = await deadLetters.original(letter);
    assert.deepEqual(bodyOf(message), { n: 0, poison: true });
    for (const [name, value] of Object.entries(HEADERS)) assert.equal(message.headers[name], value);
  }
  await allEffected(context);
  judge(context);
}

async function nothingTakesIt(context: CaseContext): Promise<void> {
  const orders = context.queue("orders");
  const refusal: Refusal = ({ kind }) => (kind === "dead-letters" ? "unauthorized" : undefined);
  const options = { retry: ONCE, concurrency: 2, prefetch: { messages: 5 } };
  const first = await startRefused(context, refusal, (one) => one.consume(orders, failOnPoison, options));
  const ids = Array.from({ length: 6 }, () => context.id());
  for (const id of ids) mustSucceed(await send(context, first.broker, orders, { n: 0, poison: true }, { id }));
  await sendAll(context, first.broker, orders, works(20));
  await parked(context, first.broker, ids);
  // A stop requeues them, and does not wait.
  await first.broker.stop({ timeoutMs: FOREVER_MS });
  let consumer: { resume(): void } | undefined;
  const second = await startRefused(context, refusal, (one) => {
    consumer = one.consume(orders, failOnPoison, options);
  });
  await parked(context, second.broker, ids);
  second.refusing.allow();
  consumer?.resume();
  const deadLetters = await context.deadLetters(orders);
  await deadLetters.until(6);
  await drained(context, second.broker, orders);
  const [status] = second.broker.status().consumers;
  assert.deepEqual([status?.parked, status?.state, status?.error], [0, "running", undefined]);
  const dead = await deadLetters.all();
  assert.deepEqual(
    dead.map((message) => message.id).sort(),
    [...ids].sort(),
    "the dead letters are not exactly these messages",
  );
  judge(context);
}

async function parked(
  context: CaseContext,
  broker: Broker,
  ids: readonly string[],
  code: "unauthorized" | "too-large" = "unauthorized",
): Promise<void> {
  const status = () => broker.status().consumers[0];
  await context.until(`${ids.length} messages to be parked`, () => status()?.parked === ids.length);
  await allEffected(context, undefined, ids);
  const { state, error, unsettled } = status() ?? {};
  assert.equal(state, "stalled");
  assert.equal(error?.code, code, "the consumer does not report why it is stalled");
  assert.ok((unsettled ?? 0) >= ids.length, "a parked message was settled");
  for (const id of ids) {
    assert.ok(
      context.events.some((event) => event.type === "parked" && event.id === id),
      `no event reports that ${id} is parked`,
    );
  }
}

async function keysContinue(context: CaseContext): Promise<void> {
  if (!(await supports(context, "order"))) return;
  const steps = context.queue("steps", { ordered: true, key: ({ n }: Work) => `key-${n % 5}` });
  let code: ReturnType<Refusal> = "too-large";
  const refusal: Refusal = ({ kind }) => (kind === "dead-letters" ? code : undefined);
  const handled: number[] = [];
  const handler = (work: Work): void => {
    failOnPoison(work);
    handled.push(work.n);
  };
  let consumer: { resume(): void } | undefined;
  const { broker, refusing } = await startRefused(context, refusal, (one) => {
    consumer = one.consume(steps, handler, { retry: ONCE });
  });
  const deadLetters = await context.deadLetters(steps);
  const [moved, waiting] = [context.id(), context.id()];
  const { withoutOwnDeadLettering } = context.harness;
  if (withoutOwnDeadLettering === undefined) {
    // A message that the broker moves does not block its key.
    mustSucceed(await send(context, broker, steps, { n: 0, poison: true }, { id: moved }));
    await sendAll(context, broker, steps, works(10));
    await deadLetters.until(1);
    await context.until("all others to be handled", () => handled.length === 10);
  } else {
    context.note(`only parking was tested: ${withoutOwnDeadLettering}`);
  }
  // A parked message blocks its key, and no other.
  code = "unauthorized";
  handled.length = 0;
  mustSucceed(await send(context, broker, steps, { n: 0, poison: true }, { id: waiting }));
  await context.until("it to be parked", () => broker.status().consumers[0]?.parked === 1);
  for (const { n } of works(10)) mustSucceed(await send(context, broker, steps, { n }));
  await context.until("the other keys to be handled", () => handled.length === 8);
  assert.deepEqual(
    handled.filter((n) => n % 5 === 0),
    [],
    "the key of a parked message continued",
  );
  refusing.allow();
  consumer?.resume();
  await deadLetters.until(withoutOwnDeadLettering === undefined ? 2 : 1);
  await context.until("its key to continue", () => handled.length === 10);
  await drained(context, broker, steps);
  await deadLetters.all();
  judge(context);
}

async function retriesBlock(context: CaseContext): Promise<void> {
  const orders = context.queue("orders");
  const attempts: number[] = [];
  const early: number[] = [];
  let due = 0;
  const handler = ({ poison }: Work, { attempt }: Delivery): void => {
    if (!poison) return;
    attempts.push(attempt);
    if (performance.now() < due) early.push(attempt);
    if (attempt === 3) return;
    due = performance.now() + 200;
    throw new Error("not yet");
  };
  const refusal: Refusal = (to, message) => (isRetry(to, message) ? "too-large" : undefined);
  const policy = { attempts: 5, delay: { firstMs: 200, factor: 1, jitter: 0 } };
  const { broker, refusing } = await startRefused(context, refusal, (one) =>
    one.consume(orders, handler, { retry: policy, concurrency: 1, prefetch: { messages: 1 } }),
  );
  mustSucceed(await send(context, broker, orders, { n: 0, poison: true }, { headers: HEADERS }));
  await sendAll(context, broker, orders, works(20));
  await judgeClean(context, broker, orders);
  assert.deepEqual(attempts, [1, 2, 3]);
  assert.deepEqual(early, [], "an attempt was early");
  assert.equal(refusing.refused(), 2);
}

export const refusedCopies: readonly ConformanceCase[] = [
  {
    number: "30a",
    title: "a dead letter that is too large loses headers, and records which",
    run: headersAreCut,
  },
  {
    number: "30b",
    title: "a body too large for any copy: the broker moves the message, or it is parked; others are handled",
    run: bodyDoesNotFit,
  },
  {
    number: "30c",
    title: "a dead letter that is always refused is parked: others are handled, and a stop does not wait",
    run: nothingTakesIt,
  },
  {
    number: "30d",
    title: "in order: a moved message does not block its key; a parked one blocks only its key",
    run: keysContinue,
  },
  {
    number: "30e",
    title: "a refused retry copy becomes a blocking retry: never early, and others are handled",
    run: retriesBlock,
  },
];
