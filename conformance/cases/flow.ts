import assert from "node:assert/strict";
import type { QueueAddress } from "../../core/address.ts";
import type { ConformanceCase } from "../case.ts";
import type { CaseContext, Work } from "../context.ts";
import { holdConfirms } from "../decorators/hold-confirms.ts";
import { watch } from "../decorators/watch.ts";
import { DirectAdapter, outgoing } from "../direct-adapter.ts";
import { allEffected, drained, judge, judgeClean } from "../judge.ts";
import { mustSucceed, send, sendAll } from "../publishing.ts";
import { works } from "./works.ts";

async function boundedPrefetch(context: CaseContext): Promise<void> {
  await prefetchOfTheAdapter(context);
  const orders = context.queue("orders");
  const watched = watch(context.harness.adapter());
  const traffic = watched.traffic(orders.name);
  let gate = Promise.withResolvers<void>();
  let running = 0;
  let most = 0;
  const handler = async (): Promise<void> => {
    most = Math.max(most, ++running);
    await gate.promise;
    running--;
  };
  const broker = context.broker({}, watched.adapter);
  const consumer = broker.consume(orders, handler, { concurrency: 10, prefetch: { messages: 20 } });
  await broker.start();
  await sendAll(context, broker, orders, works(300));
  await context.until("10 handlers at once", () => running === 10);
  consumer.setConcurrency(14);
  await context.until("14 handlers at once", () => running === 14);
  consumer.setConcurrency(2);
  // One round: the running handlers end, and the next two wait at the next gate.
  const round = gate;
  gate = Promise.withResolvers<void>();
  round.resolve();
  await context.until("the 14 handlers to end", () => running === 2 && context.ledger.starts(orders.name) === 16);
  assert.equal(most, 14, "more handlers ran at once than were allowed");
  most = 0;
  gate.resolve();
  await judgeClean(context, broker, orders);
  assert.ok(most <= 2, `${most} handlers ran at once after setConcurrency(2)`);
  assert.ok(traffic.mostUnsettled <= 20, `${traffic.mostUnsettled} unsettled deliveries in a prefetch of 20`);
}

/** The adapter never exceeds the prefetch. */
async function prefetchOfTheAdapter(context: CaseContext): Promise<void> {
  const address: QueueAddress = { kind: "queue", name: context.name("direct") };
  const direct = await DirectAdapter.open(context.harness.adapter());
  context.cleanUp(() => direct.close());
  await direct.declare({ queues: [{ address, ordered: false, priorities: 1 }] });
  const ids = works(100).map(() => context.id());
  for (const id of ids) await direct.confirmed(address, [outgoing({ id })]);
  const inbox = await direct.receive(address, { prefetch: 10, ordered: false });
  await context.until("a prefetch of deliveries", () => inbox.messages.length >= 10);
  const acked = async (from: number, to: number): Promise<void> => {
    const results = await inbox.settle(inbox.messages.slice(from, to), "ack");
    assert.ok(results.every((result) => result === "settled"));
  };
  await acked(0, 3);
  await context.until("the prefetch to be filled again", () => inbox.messages.length >= 13);
  assert.equal(inbox.mostUnsettled, 10);
  inbox.receiver?.prefetch(0);
  await acked(3, 13);
  inbox.receiver?.prefetch(4);
  await context.until("the smaller prefetch to be filled", () => inbox.unsettled >= 4);
  // Deliveries may have been on their way when the prefetch was set to 0, but never more than 10 in all.
  assert.ok(inbox.mostUnsettled <= 10, `${inbox.mostUnsettled} unsettled deliveries in a prefetch of 10`);
  let settled = 13;
  while (settled < ids.length) {
    await context.until("more deliveries", () => inbox.messages.length > settled);
    const arrived = inbox.messages.length;
    await acked(settled, arrived);
    settled = arrived;
  }
  assert.ok(inbox.mostUnsettled <= 10, `${inbox.mostUnsettled} unsettled deliveries in a prefetch of 10`);
  assert.deepEqual(inbox.messages.map(({ id }) => id).sort(), [...ids].sort());
}

async function slowHandler(context: CaseContext): Promise<void> {
  const orders = context.queue("orders");
  const watched = watch(context.leasing());
  const traffic = watched.traffic(orders.name);
  const { sessionMs = 0 } = context.harness;
  const slowMs = (): number => 2.5 * Math.max(sessionMs, traffic.leaseMs ?? 0, 400);
  const handler = async ({ n }: Work): Promise<void> => {
    const begin = performance.now();
    if (n % 25 !== 0) return;
    await context.until("the slow work", () => performance.now() - begin > slowMs(), slowMs() + context.patienceMs);
  };
  const options = { concurrency: 4, prefetch: { messages: 12 } };
  const broker = await context.started({}, (one) => one.consume(orders, handler, options), watched.adapter);
  const rival = await context.started({}, (one) => one.consume(orders, handler, options), context.leasing());
  await sendAll(context, broker, orders, works(100));
  await allEffected(context, slowMs() * 4 + context.patienceMs);
  await drained(context, rival, orders);
  judge(context);
  assert.equal(context.ledger.starts(orders.name), 100, "messages were started again while their handlers ran");
  assert.ok(traffic.mostUnsettled <= 12, `${traffic.mostUnsettled} unsettled deliveries in a prefetch of 12`);
  assert.equal(traffic.receivers, 1, "the consumer opened another receiver");
  assert.deepEqual(traffic.lost, [], "deliveries were lost while their handlers ran");
}

async function pauseAndResume(context: CaseContext): Promise<void> {
  const orders = context.queue("orders");
  const beacon = context.queue("beacon");
  const watched = watch(context.harness.adapter());
  const traffic = watched.traffic(orders.name);
  const broker = context.broker({}, watched.adapter);
  const consumer = broker.consume(orders, () => {}, { concurrency: 4, prefetch: { messages: 20 } });
  broker.consume(beacon, () => {});
  await broker.start();
  await sendAll(context, broker, orders, works(20));
  await allEffected(context);
  for (let round = 1; round <= 3; round++) {
    consumer.pause();
    const before = context.ledger.starts(orders.name);
    await sendAll(context, broker, orders, works(50));
    // A consumer that is not paused would start its messages before these later ones.
    await sendAll(context, broker, beacon, works(20));
    await context.until("the beacon", () => context.ledger.effects(beacon.name) === 20 * round);
    assert.equal(context.ledger.starts(orders.name), before, "handlers were started on a paused consumer");
    assert.equal(consumer.status().state, "paused");
    consumer.resume();
    await allEffected(context);
  }
  await judgeClean(context, broker, orders, beacon);
  assert.equal(traffic.receivers, 1, "the paused consumer opened another receiver");
  assert.equal(traffic.closed, 0, "the paused consumer closed its receiver");
}

async function pauseAndRequeue(context: CaseContext): Promise<void> {
  const orders = context.queue("orders");
  let gate = Promise.withResolvers<void>();
  const broker = context.broker();
  const consumer = broker.consume(orders, () => gate.promise, { concurrency: 2, prefetch: { messages: 20 } });
  await broker.start();
  await sendAll(context, broker, orders, works(60));
  for (let round = 1; round <= 3; round++) {
    await context.until("messages to wait in memory", () => consumer.status().waiting > 0);
    const before = consumer.status().requeued;
    consumer.pause({ requeue: true });
    await context.until("waiting messages to be requeued", () => {
      const { running, waiting, unsettled, requeued } = consumer.status();
      return waiting === 0 && unsettled === running && requeued > before;
    });
    assert.equal(consumer.status().running, 2, "running handlers were stopped");
    const { promise, resolve } = gate;
    gate = Promise.withResolvers<void>();
    resolve();
    await promise;
    await context.until("running handlers to be settled", () => consumer.status().unsettled === 0);
    assert.equal(context.ledger.starts(orders.name), 2 * round, "handlers were started on a paused consumer");
    consumer.resume();
  }
  gate.resolve();
  await judgeClean(context, broker, orders);
  assert.equal(context.ledger.starts(orders.name), 60, "a requeued message was started more than once");
}

const FULL = 10;

async function fullBuffer(context: CaseContext): Promise<void> {
  await overloadedAtOnce(context);
  await waitsForRoom(context);
  await endsByItsDeadline(context);
}

async function overloadedAtOnce(context: CaseContext): Promise<void> {
  const orders = context.queue("failing");
  const refusing = holdConfirms(context.harness.adapter(), { swallow: true });
  const publishing = { maxMessages: FULL, whenFull: "fail", timeoutMs: context.patienceMs } as const;
  const options = { destinations: [orders], publish: publishing };
  const broker = await context.started(options, (one) => one.consume(orders, () => {}), refusing.adapter);
  const taken = works(FULL).map((work) => send(context, broker, orders, work));
  await context.until("the buffer to be full", () => broker.status().publishing.messages === FULL);
  for (let extra = 0; extra < 100; extra++) {
    const failure = await send(context, broker, orders, { n: FULL + extra });
    assert.equal(failure?.code, "overloaded", failure?.message ?? "sent beyond a full buffer");
  }
  assert.equal(broker.status().publishing.messages, FULL);
  refusing.release();
  for (const refusal of await Promise.all(taken)) mustSucceed(refusal);
  mustSucceed(await send(context, broker, orders, { n: 1_000 }));
  await judgeClean(context, broker, orders);
}

async function waitsForRoom(context: CaseContext): Promise<void> {
  const orders = context.queue("waiting");
  const refusing = holdConfirms(context.harness.adapter(), { swallow: true });
  const publishing = { maxMessages: FULL, whenFull: "wait", timeoutMs: context.patienceMs } as const;
  const broker = await context.started(
    { publish: publishing },
    (one) => one.consume(orders, () => {}),
    refusing.adapter,
  );
  let settled = 0;
  const sends = works(FULL * 3).map((work) => send(context, broker, orders, work).finally(() => settled++));
  const { publishing: status } = broker.status();
  await context.until("the callers to wait", () => broker.status().publishing.waiting === FULL * 2);
  assert.ok(status.messages <= FULL, `${status.messages} messages in a buffer of ${FULL}`);
  assert.equal(settled, 0, "a send ended while the broker gave no answer");
  // The adapter gets no more than the buffer holds; the callers wait with the rest.
  assert.ok(
    new Set(refusing.handedOver).size <= FULL,
    `${refusing.handedOver.length} messages were given to the adapter`,
  );
  refusing.release();
  for (const refusal of await Promise.all(sends)) mustSucceed(refusal);
  await judgeClean(context, broker, orders);
}

/** Given to the adapter without an answer: `unconfirmed`. Waiting for the buffer: `timeout`. */
async function endsByItsDeadline(context: CaseContext): Promise<void> {
  const orders = context.queue("deadline");
  const refusing = holdConfirms(context.harness.adapter(), { swallow: true });
  const options = { destinations: [orders], publish: { maxMessages: FULL } };
  const broker = await context.started(options, () => {}, refusing.adapter);
  const timeoutMs = ({ n }: Work): number => (n < FULL ? 1_000 : 300);
  const sendOne = (work: Work) => send(context, broker, orders, work, { timeoutMs: timeoutMs(work) });
  const ends = Promise.all(works(FULL * 2).map(sendOne));
  await context.until("every send to end", () => context.ledger.outcomes("pending") === 0);
  const codes = (await ends).map((refusal) => refusal?.code);
  const handedOver = new Set(refusing.handedOver).size;
  assert.ok(handedOver > 0 && handedOver < codes.length);
  assert.equal(codes.filter((code) => code === "unconfirmed").length, handedOver, String(codes));
  assert.equal(codes.filter((code) => code === "timeout").length, codes.length - handedOver, String(codes));
  refusing.release();
  broker.consume(orders, () => {});
  mustSucceed(await send(context, broker, orders, { n: 1_000 }));
  await allEffected(context);
  await drained(context, broker, orders);
  // An unconfirmed message may have been sent more than once with its id.
  judge(context, { duplicates: refusing.handedOver.length });
}

export const flow: readonly ConformanceCase[] = [
  {
    number: "19",
    title: "unsettled deliveries never exceed the prefetch; concurrency changes live",
    run: boundedPrefetch,
  },
  { number: "20", title: "slow handler: bounded memory, no rebalance loop, no redelivery storm", run: slowHandler },
  { number: "21a", title: "pause and resume keep membership and lose nothing", run: pauseAndResume },
  { number: "21b", title: "a pause with `requeue` gives back waiting messages only", run: pauseAndRequeue },
  {
    number: "22",
    title: "full publish buffer: `wait` waits, `fail` fails at once; memory stays bounded",
    run: fullBuffer,
  },
];
