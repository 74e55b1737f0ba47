import assert from "node:assert/strict";
import type { Broker } from "../../core/broker.ts";
import { type Delivery, postpone, retry as retryLater } from "../../core/delivery.ts";
import type { Queue } from "../../core/destination.ts";
import type { ConformanceCase } from "../case.ts";
import type { CaseContext, Work } from "../context.ts";
import { type RefusedSends, refuseSends } from "../decorators/refuse-sends.ts";
import { type Watched, watch } from "../decorators/watch.ts";
import { allEffected, drained, judge, judgeClean } from "../judge.ts";
import { mustSucceed, publish, send, sendAll } from "../publishing.ts";
import { WorkerProcess } from "../workers/worker-process.ts";
import { crashes } from "./crashes.ts";
import { poison } from "./poison.ts";
import { works } from "./works.ts";

async function immediate(context: CaseContext): Promise<void> {
  const orders = context.queue("orders");
  const attempts = new Map<string, number[]>();
  const handler = (_: Work, { id, attempt }: Delivery): void => {
    attempts.set(id, [...(attempts.get(id) ?? []), attempt]);
    if (attempt < 4) throw new Error("not yet");
  };
  const policy = { attempts: 4, delay: { firstMs: 0 } };
  const broker = await context.started({}, (one) => one.consume(orders, handler, { retry: policy }));
  const graves = await context.deadLetters(orders);
  await sendAll(context, broker, orders, works(50));
  await judgeClean(context, broker, orders);
  assert.equal(attempts.size, 50);
  for (const each of attempts.values()) assert.deepEqual(each, [1, 2, 3, 4]);
  assert.deepEqual(await graves.all(), [], "a message that succeeded at its last attempt was dead-lettered");
}

async function neverEarly(context: CaseContext): Promise<void> {
  const orders = context.queue("orders");
  const chosen = context.queue("chosen");
  const due = new Map<string, number>();
  const early: string[] = [];
  const arrive = ({ id, attempt }: Delivery): void => {
    const earlyMs = (due.get(id) ?? 0) - performance.now();
    if (earlyMs > 0) early.push(`attempt ${attempt} of ${id} by ${earlyMs.toFixed(1)} ms`);
  };
  const policy = { attempts: 4, delay: { firstMs: 150, factor: 2, maxMs: 400, jitter: 0 } };
  const delays = [150, 300, 400];
  const broker = await context.started({}, (one) => {
    const failing = (_: Work, delivery: Delivery): void => {
      arrive(delivery);
      const delayMs = delays[delivery.attempt - 1];
      if (delayMs === undefined) return;
      due.set(delivery.id, performance.now() + delayMs);
      throw new Error("not yet");
    };
    one.consume(orders, failing, { retry: policy });
    one.consume(chosen, ({ n }, delivery) => {
      arrive(delivery);
      if (delivery.attempt > 2) return;
      const afterMs = 250 + n;
      due.set(delivery.id, performance.now() + afterMs);
      return retryLater({ afterMs });
    });
  });
  await sendAll(context, broker, orders, works(20));
  await sendAll(context, broker, chosen, works(20));
  await judgeClean(context, broker, orders, chosen);
  assert.deepEqual(early, [], "retries came before they were due");
  assert.equal(context.ledger.starts(orders.name), 80);
  assert.equal(context.ledger.starts(chosen.name), 60);
}

async function countOverRestarts(context: CaseContext): Promise<void> {
  const orders = context.queue("orders");
  const publisher = await context.started({ destinations: [orders] });
  const id = context.id();
  const { processes } = context.harness;
  const attempts: number[] = [];
  // Copies come when nobody takes them for one who died.
  const retryMs = 400 + 2 * (context.harness.abandonedMs ?? 0);
  const policy = { attempts: 6, delay: { firstMs: retryMs, factor: 1, jitter: 0 } };
  if (processes !== undefined) {
    const order = { queue: orders.name, behaviour: "throw", attempts: 6, retryMs } as const;
    const worker = await WorkerProcess.consume(context, processes, order);
    mustSucceed(await send(context, publisher, orders, { n: 1 }, { id }));
    await context.until("a failed attempt whose copy is settled", () => worker.acked.has(id));
    await worker.kill();
    attempts.push(...(worker.attempts.get(id) ?? []));
  } else {
    const failing = (_: Work, { attempt }: Delivery): void => {
      attempts.push(attempt);
      throw new Error("not yet");
    };
    const before = await context.started({}, (one) => one.consume(orders, failing, { retry: policy }));
    mustSucceed(await send(context, publisher, orders, { n: 1 }, { id }));
    await context.until("two failed attempts", () => attempts.length >= 2);
    await before.stop();
    context.note("the restart is of a broker object: the harness has no processes");
  }
  const failed = attempts.length;
  const handler = (_: Work, { attempt }: Delivery): void => {
    attempts.push(attempt);
    if (attempts.length < failed + 2) throw new Error("not yet");
  };
  await context.started({}, (one) => one.consume(orders, handler, { retry: policy }));
  await judgeClean(context, publisher, orders);
  // Whoever was killed may have been at the next attempt by then, which is begun again.
  const counted = attempts.filter((attempt, index) => index !== failed || attempt !== attempts[index - 1]);
  assert.deepEqual(
    counted,
    counted.map((_, index) => index + 1),
    "the restart lost count of the attempts",
  );
}

async function retryStaysHome(context: CaseContext): Promise<void> {
  const placed = context.topic("placed");
  const broker = await context.started({}, (one) => {
    one.subscribe(
      placed,
      "failing",
      (_, { attempt }) => {
        if (attempt < 3) throw new Error("not yet");
      },
      { retry: { delay: { firstMs: 10 } } },
    );
    one.subscribe(placed, "calm", () => {});
  });
  for (let n = 0; n < 20; n++) mustSucceed(await publish(context, broker, placed, ["failing", "calm"], { n }));
  await allEffected(context);
  await drained(context, broker, placed, "failing");
  await drained(context, broker, placed, "calm");
  judge(context);
  assert.equal(context.ledger.starts(`${placed.name}..failing`), 60);
  assert.equal(context.ledger.starts(`${placed.name}..calm`), 20, "the retry of one subscription was seen by another");
}

async function postponed(context: CaseContext): Promise<void> {
  const orders = context.queue("orders");
  const lined = context.queue("lined", { ordered: true, key: ({ n }) => `key-${n % 3}` });
  const due = new Map<string, number>();
  const early: string[] = [];
  const attempts = new Set<number>();
  const starts = new Map<string, number>();
  // More often than there are attempts.
  const handler = (_: Work, { id, attempt }: Delivery): ReturnType<typeof postpone> | undefined => {
    const earlyMs = (due.get(id) ?? 0) - performance.now();
    if (earlyMs > 0) early.push(`${id} by ${earlyMs.toFixed(1)} ms`);
    attempts.add(attempt);
    const count = (starts.get(id) ?? 0) + 1;
    starts.set(id, count);
    if (count > 3) return undefined;
    due.set(id, performance.now() + 120);
    return postpone({ afterMs: 120 });
  };
  const queues = context.capabilities.order.support === "unsupported" ? [orders] : [orders, lined];
  const broker = await context.started({}, (one) => {
    for (const each of queues) one.consume(each, handler, { retry: { attempts: 2 } });
  });
  const graves = await Promise.all(queues.map((each) => context.deadLetters(each)));
  for (const each of queues) await sendAll(context, broker, each, works(20));
  await judgeClean(context, broker, ...queues);
  assert.deepEqual(early, [], "postponed messages came before they were due");
  assert.deepEqual([...attempts], [1], "to postpone a message used up an attempt");
  for (const each of queues) assert.equal(context.ledger.starts(each.name), 80);
  for (const reader of graves) assert.deepEqual(await reader.all(), [], "what was only postponed was dead-lettered");
}

interface Refused {
  readonly broker: Broker;
  readonly refusing: RefusedSends<unknown>;
  readonly watched: Watched<unknown>;
}

/** A consumer to whom the dead letters are closed. */
async function startRefused(context: CaseContext, orders: Queue<Work>): Promise<Refused> {
  const refusing = refuseSends(context.harness.adapter(), ({ kind }) => kind === "dead-letters");
  const watched = watch(refusing.adapter);
  const handler = (body: Work): void => {
    if (body.poison) throw new Error("poison");
  };
  const policy = { attempts: 2, delay: { firstMs: 0 } };
  const broker = await context.started({}, (one) => one.consume(orders, handler, { retry: policy }), watched.adapter);
  return { broker, refusing, watched };
}

/** The message stays where it was. */
async function staysUnsettled(context: CaseContext, orders: Queue<Work>, refused: Refused, id: string): Promise<void> {
  const { unsettled } = refused.watched.traffic(orders.name);
  const before = refused.refusing.refused();
  await context.until("copies to the dead letters to be refused", () => refused.refusing.refused() >= before + 3);
  await sendAll(context, refused.broker, orders, works(10));
  await allEffected(context, undefined, [id]);
  await context.until("everything else to be settled", () => unsettled.size <= 1);
  const [original] = unsettled.values();
  assert.equal(original?.id, id, "the original was settled although its copy was refused");
  assert.ok(
    context.events.some((event) => event.type === "copy-failed" && event.id === id),
    "no event copy-failed",
  );
}

async function copyFails(context: CaseContext): Promise<void> {
  const orders = context.queue("orders");
  const id = context.id();
  // The first one crashes while its copies are refused: the message must still be there for the second.
  const first = await startRefused(context, orders);
  mustSucceed(await send(context, first.broker, orders, { n: 0, poison: true }, { id }));
  await staysUnsettled(context, orders, first, id);
  await first.watched.adapter.close();
  await first.broker.stop({ timeoutMs: 1 });
  const second = await startRefused(context, orders);
  await staysUnsettled(context, orders, second, id);
  second.refusing.allow();
  const reader = await context.deadLetters(orders);
  await reader.until(1);
  await drained(context, second.broker, orders);
  await second.broker.stop();
  const [message, ...more] = await reader.all();
  assert.ok(message?.id === id && more.length === 0, "the message is not in the dead letters, once");
  judge(context);
}

export const retry: readonly ConformanceCase[] = [
  { number: "26a", title: "immediate retries, attempt count", run: immediate },
  { number: "26b", title: "delayed retries are never early", run: neverEarly },
  { number: "26c", title: "a process restart in between keeps the count", run: countOverRestarts },
  { number: "26d", title: "the retry of one subscription is no other's", needsTopics: true, run: retryStaysHome },
  { number: "26e", title: "what is postponed comes again, never early, and no attempt is used up", run: postponed },
  {
    number: "27",
    title: "poison: at most `attempts` starts, then dead-lettered with everything; others pass",
    run: poison,
  },
  ...crashes,
  { number: "29", title: "the copy to the dead letters fails: the original stays unsettled", run: copyFails },
];
