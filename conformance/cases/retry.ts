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
  const deadLetters = await context.deadLetters(orders);
  await sendAll(context, broker, orders, works(50));
  await judgeClean(context, broker, orders);
  assert.equal(attempts.size, 50);
  for (const each of attempts.values()) assert.deepEqual(each, [1, 2, 3, 4]);
  assert.deepEqual(await deadLetters.all(), [], "a message that succeeded at its last attempt was dead-lettered");
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
  // Longer than the broker delivers to a dead consumer.
  const retryMs = 400 + 2 * (context.harness.abandonedMs ?? 0);
  const policy = { attempts: 6, delay: { firstMs: retryMs, factor: 1, jitter: 0 } };
  if (processes !== undefined) {
    const order = { queue: orders.name, behaviour: "throw", attempts: 6, retryMs } as const;
    const worker = await WorkerProcess.consume(context, processes, order);
    mustSucceed(await send(context, publisher, orders, { n: 1 }, { id }));
    await context.until("a failed attempt, copied and acked", () => worker.acked.has(id));
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
    context.note("a broker object was restarted: the harness has no `processes`");
  }
  const failed = attempts.length;
  const handler = (_: Work, { attempt }: Delivery): void => {
    attempts.push(attempt);
    if (attempts.length < failed + 2) throw new Error("not yet");
  };
  await context.started({}, (one) => one.consume(orders, handler, { retry: policy }));
  await judgeClean(context, publisher, orders);
  // The killed worker may have started the next attempt, which then starts again.
  const counted = attempts.filter((attempt, index) => index !== failed || attempt !== attempts[index - 1]);
  assert.deepEqual(
    counted,
    counted.map((_, index) => index + 1),
    "the restart lost count of the attempts",
  );
}

async function retryStaysInSubscription(context: CaseContext): Promise<void> {
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
    one.subscribe(placed, "other", () => {});
  });
  for (let n = 0; n < 20; n++) mustSucceed(await publish(context, broker, placed, ["failing", "other"], { n }));
  await allEffected(context);
  await drained(context, broker, placed, "failing");
  await drained(context, broker, placed, "other");
  judge(context);
  assert.equal(context.ledger.starts(`${placed.name}..failing`), 60);
  assert.equal(context.ledger.starts(`${placed.name}..other`), 20, "another subscription got the retry");
}

async function postponed(context: CaseContext): Promise<void> {
  const orders = context.queue("orders");
  const inOrder = context.queue("in-order", { ordered: true, key: ({ n }) => `key-${n % 3}` });
  const due = new Map<string, number>();
  const early: string[] = [];
  const attempts = new Set<number>();
  const starts = new Map<string, number>();
  // Postpones more often than the retry policy has attempts.
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
  const queues = context.capabilities.order.support === "unsupported" ? [orders] : [orders, inOrder];
  const broker = await context.started({}, (one) => {
    for (const each of queues) one.consume(each, handler, { retry: { attempts: 2 } });
  });
  const deadLetters = await Promise.all(queues.map((each) => context.deadLetters(each)));
  for (const each of queues) await sendAll(context, broker, each, works(20));
  await judgeClean(context, broker, ...queues);
  assert.deepEqual(early, [], "postponed messages came before they were due");
  assert.deepEqual([...attempts], [1], "postponing used an attempt");
  for (const each of queues) assert.equal(context.ledger.starts(each.name), 80);
  for (const reader of deadLetters) assert.deepEqual(await reader.all(), [], "a postponed message was dead-lettered");
}

interface Refused {
  readonly broker: Broker;
  readonly refusing: RefusedSends<unknown>;
  readonly watched: Watched<unknown>;
}

/** A consumer whose copies to the dead letters are refused. */
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

/** Checks that the original stays unsettled. */
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
  // The first consumer crashes while its copies are refused. The second one has to get the message.
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
  assert.ok(message?.id === id && more.length === 0, "the message is not in the dead letters exactly once");
  judge(context);
}

export const retry: readonly ConformanceCase[] = [
  { number: "26a", title: "immediate retries count their attempts", run: immediate },
  { number: "26b", title: "delayed retries are never early", run: neverEarly },
  { number: "26c", title: "the count survives a restart of the process", run: countOverRestarts },
  { number: "26d", title: "a retry stays in its subscription", needsTopics: true, run: retryStaysInSubscription },
  { number: "26e", title: "a postponed message comes again, never early, and uses no attempt", run: postponed },
  {
    number: "27",
    title: "poison: at most `attempts` starts, then dead-lettered with all its data; others are handled",
    run: poison,
  },
  ...crashes,
  { number: "29", title: "a failed dead-letter copy: the original stays unsettled", run: copyFails },
];
