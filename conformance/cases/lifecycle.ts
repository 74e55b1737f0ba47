import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import type { Broker } from "../../core/broker.ts";
import type { Delivery } from "../../core/delivery.ts";
import { isMessagingError } from "../../core/errors.ts";
import type { ConformanceCase } from "../case.ts";
import type { CaseContext, Work } from "../context.ts";
import { holdConfirms } from "../decorators/hold-confirms.ts";
import { type Watched, watch } from "../decorators/watch.ts";
import { allEffected, drained, judge, judgeClean } from "../judge.ts";
import { callers, mustSucceed, send, sendAll } from "../publishing.ts";
import { codeOf } from "../refusals.ts";
import { works } from "./works.ts";

async function stopDrains(context: CaseContext): Promise<void> {
  const orders = context.queue("orders");
  const watched = watch(context.harness.adapter());
  const receipts = context.queue("receipts");
  const gate = Promise.withResolvers<void>();
  const options = { concurrency: 5, prefetch: { messages: 10 } };
  const prepare = (one: Broker): void => {
    const handler = async ({ n }: Work): Promise<void> => {
      await gate.promise;
      // A running handler can still send.
      mustSucceed(await send(context, one, receipts, { n }));
    };
    one.consume(orders, handler, options);
  };
  const broker = await context.started({ destinations: [receipts] }, prepare, watched.adapter);
  await sendAll(context, broker, orders, works(40));
  await context.until("five handlers to run", () => context.ledger.starts(orders.name) === 5);
  let stopped = false;
  const stopping = broker.stop({ timeoutMs: context.patienceMs }).then(() => {
    stopped = true;
  });
  await context.until("the stop to begin", () => broker.status().state === "stopping");
  assert.equal(stopped, false, "stop() did not wait for the running handlers");
  gate.resolve();
  await stopping;
  assert.equal(await codeOf("a send after the stop", broker.send(orders, { n: 1 })), "closed");
  assert.equal(context.ledger.starts(orders.name), 5, "handlers were started after stop()");
  assert.equal(context.ledger.effects(orders.name), 5, "stop() did not wait for the running handlers");
  assert.equal(watched.traffic(orders.name).acked.length, 5, "stop() closed before finished messages were settled");
  const heir = await context.started({}, (one) => {
    one.consume(orders, () => {});
    one.consume(receipts, () => {});
  });
  await judgeClean(context, heir, orders, receipts);
  assert.equal(context.ledger.starts(orders.name), 40);
  assert.equal(context.ledger.effects(receipts.name), 5);
}

async function stopPastItsDeadline(context: CaseContext): Promise<void> {
  const orders = context.queue("orders");
  const reasons: unknown[] = [];
  const aborted = ({ signal }: Delivery): Promise<void> =>
    new Promise((resolve) => {
      signal.addEventListener("abort", () => {
        reasons.push(signal.reason);
        resolve();
      });
    });
  // When aborted, a third of the handlers rejects with the reason, a third never ends, a third throws another error.
  const handler = async ({ n }: Work, delivery: Delivery): Promise<void> => {
    await aborted(delivery);
    if (n % 3 === 0) throw delivery.signal.reason;
    if (n % 3 === 1) await new Promise(() => {});
    throw new Error("unfinished");
  };
  const retry = { attempts: 1 };
  const options = { concurrency: 6, retry };
  const broker = await context.started({}, (one) => one.consume(orders, handler, options));
  const deadLetters = await context.deadLetters(orders);
  await sendAll(context, broker, orders, works(12));
  await context.until("six handlers to run", () => context.ledger.starts(orders.name) === 6);
  let stopped = false;
  void broker.stop({ timeoutMs: 100 }).then(() => {
    stopped = true;
  });
  await context.until("stop() to end although handlers do not", () => stopped);
  assert.equal(reasons.length, 6, "not every running handler was aborted");
  for (const reason of reasons) assert.ok(isMessagingError(reason), "the signal's reason is no MessagingError");
  // With one attempt, an abort that counts as a failure would dead-letter the message.
  const heir = await context.started({}, (one) => one.consume(orders, () => {}, { retry }));
  await judgeClean(context, heir, orders);
  assert.deepEqual(await deadLetters.all(), [], "an aborted message was dead-lettered");
}

async function startsAgain(context: CaseContext): Promise<void> {
  const orders = context.queue("orders");
  const broker = await context.started({}, (one) => one.consume(orders, () => {}));
  await broker.start();
  for (let round = 0; round < 3; round++) {
    await sendAll(context, broker, orders, works(20));
    await allEffected(context);
    await Promise.all([broker.stop(), broker.stop(), broker.stop({ timeoutMs: 10 })]);
    assert.equal(broker.status().state, "stopped");
    assert.equal(broker.status().connected, false);
    assert.equal(await codeOf("a send after stop()", broker.send(orders, { n: 1 })), "closed");
    await broker.stop();
    await broker.start();
  }
  // A stop during a start closes everything, and the next start works.
  await broker.stop();
  const starting = broker.start().catch((error: unknown) => {
    if (!isMessagingError(error)) throw error;
  });
  await broker.stop();
  await starting;
  assert.equal(broker.status().connected, false, "a connection is left after a stop during the start");
  await broker.start();
  await sendAll(context, broker, orders, works(20));
  await judgeClean(context, broker, orders);
}

async function adapterInUse(context: CaseContext): Promise<void> {
  const orders = context.queue("orders");
  const adapter = context.harness.adapter();
  const broker = await context.started({}, (one) => one.consume(orders, () => {}), adapter);
  const second = context.broker({ destinations: [orders] }, adapter);
  assert.equal(await codeOf("a start on an adapter in use", second.start()), "start-failed");
  await second.stop();
  assert.equal(broker.status().connected, true, "the second broker object closed the adapter of the first");
  await sendAll(context, broker, orders, works(20));
  await judgeClean(context, broker, orders);
}

async function stopMidPublish(context: CaseContext): Promise<void> {
  const orders = context.queue("orders");
  const held = holdConfirms(context.harness.adapter());
  const broker = await context.started({ destinations: [orders] }, () => {}, held.adapter);
  const early = Promise.all(works(100).map((work) => send(context, broker, orders, work)));
  await context.until("the broker to confirm some", () => held.answered.length > 0);
  const stopping = broker.stop({ timeoutMs: context.patienceMs });
  const late = Promise.all(works(20).map((work) => send(context, broker, orders, work)));
  held.release();
  await stopping;
  await context.until("every send to end", () => context.ledger.outcomes("pending") === 0);
  for (const refusal of await early) mustSucceed(refusal);
  for (const refusal of await late) if (refusal !== undefined) assert.equal(refusal.code, "closed");
  assert.equal((await send(context, broker, orders, { n: 1 }))?.code, "closed");
  // A stop during a stream of sends: some are confirmed, some refused, and each report has to be true.
  const streaming = await context.started({ destinations: [orders] });
  const stream = callers(2_000, 50, (n) => send(context, streaming, orders, { n }));
  await context.until("the stream to flow", () => context.ledger.outcomes("confirmed") > 300);
  await streaming.stop();
  await stream;
  await context.until("every send to end", () => context.ledger.outcomes("pending") === 0);
  const heir = await context.started({}, (one) => one.consume(orders, () => {}));
  await judgeClean(context, heir, orders);
}

async function comeAndGo(context: CaseContext): Promise<void> {
  const orders = context.queue("orders");
  const prefetch = 20;
  const total = 2_000;
  const publisher = await context.started({ destinations: [orders] });
  const everyone: Watched<unknown>[] = [];
  let mayDuplicate = 0;
  const member = async (): Promise<() => Promise<void>> => {
    const watched = watch(context.harness.adapter());
    everyone.push(watched);
    const handler = async (): Promise<void> => sleep(context.random() * 4);
    const options = { concurrency: 5, prefetch: { messages: prefetch } };
    const broker = await context.started({}, (one) => one.consume(orders, handler, options), watched.adapter);
    return async () => {
      if (context.random() < 0.7) return broker.stop();
      // A crash: the adapter closes under its engine. Messages may be handled meanwhile, and not be settled.
      mayDuplicate += prefetch;
      await watched.adapter.close();
    };
  };
  const load = callers(total, 20, async (n) => mustSucceed(await send(context, publisher, orders, { n })));
  const members = [await member(), await member(), await member()];
  for (let change = 0; change < 10; change++) {
    const before = context.ledger.effects(orders.name);
    await members.shift()?.();
    members.push(await member());
    const progressed = (): boolean => context.ledger.effects(orders.name) > before || before >= total;
    await context.until("progress after a change of consumers", progressed);
  }
  await load;
  await allEffected(context);
  await drained(context, publisher, orders);
  const lost = everyone.reduce((sum, watched) => sum + watched.traffic(orders.name).lost.length, 0);
  judge(context, { duplicates: mayDuplicate + lost });
}

export const lifecycle: readonly ConformanceCase[] = [
  { number: "23a", title: "stop drains", run: stopDrains },
  {
    number: "23b",
    title: "stop past its deadline: handlers are aborted, their messages redelivered",
    run: stopPastItsDeadline,
  },
  { number: "24a", title: "start after stop; concurrent stops", run: startsAgain },
  { number: "24b", title: "stop during sends: every promise settles with the truth", run: stopMidPublish },
  { number: "24c", title: "a second broker object on an adapter in use leaves the first alone", run: adapterInUse },
  {
    number: "25",
    title: "consumers join and leave under load: no loss, bounded duplicates, progress",
    run: comeAndGo,
  },
];
