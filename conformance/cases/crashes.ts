import assert from "node:assert/strict";
import type { Delivery } from "../../core/delivery.ts";
import type { Queue } from "../../core/destination.ts";
import { HEADER } from "../../core/system-headers.ts";
import type { ConformanceCase } from "../case.ts";
import type { CaseContext, Work } from "../context.ts";
import { DirectAdapter } from "../direct-adapter.ts";
import { allEffected, drained, judge } from "../judge.ts";
import { processesOrEnd } from "../processes.ts";
import { mustSucceed, send, sendAll } from "../publishing.ts";
import { supports } from "../refusals.ts";
import { WorkerProcess } from "../workers/worker-process.ts";
import { works } from "./works.ts";

const ATTEMPTS = 3;
/** The starts of a message that crashes each of its consumers. */
const STARTS = 4;
const SILENCE_MS = 2_000;
const PREFETCH = 4;
const WORKERS = 2;
const OTHERS = 40;
const CONSUMERS = 5;
const ROUNDS = 4;
const KEYS = 6;
const RECOVERY_MS = 180_000;
/** More crashes than this are a crash loop. */
const MOST_CRASHES = 40;

/** A message whose handler kills its process each time, until it is quarantined and dead-lettered. */
async function crashedPoison(context: CaseContext, ordered: boolean): Promise<void> {
  if (ordered && !(await supports(context, "order"))) return;
  const processes = await processesOrEnd(context);
  if (processes === undefined) return;
  const orders = context.queue("orders", ordered ? { ordered, key: ({ n }: Work) => `k${n % 5}` } : {});
  const publisher = await context.started({ destinations: [orders] });
  const deadLetters = await context.deadLetters(orders);
  const id = context.id();
  await sendAll(context, publisher, orders, works(OTHERS / 2));
  mustSucceed(await send(context, publisher, orders, { n: -1, poison: true }, { id }));
  await sendAll(context, publisher, orders, works(OTHERS / 2));
  const startWorker = (): Promise<WorkerProcess> =>
    WorkerProcess.consume(context, processes, {
      queue: orders.name,
      ordered,
      silenceMs: SILENCE_MS,
      behaviour: "kill-self-on-poison",
      concurrency: 2,
      prefetch: PREFETCH,
      attempts: ATTEMPTS,
    });
  const workers = await Promise.all(Array.from({ length: WORKERS }, startWorker));
  let crashes = 0;
  // Not counted by effects: some messages have two.
  const others = (): boolean => context.ledger.verdict().lost.every((entry) => entry === `${orders.name}/${id}`);
  const done = (): boolean => deadLetters.messages.length > 0 && others();
  while (!done()) {
    const dead = (): number => workers.findIndex((worker) => !worker.running);
    await context.until("the poison to be dead-lettered, or to kill again", () => done() || dead() >= 0);
    if (dead() < 0) continue;
    assert.ok(++crashes <= MOST_CRASHES, `${crashes} workers were killed by one message\n${context.ledger.describe()}`);
    await workers[dead()]?.kill();
    workers[dead()] = await startWorker();
  }
  await drained(context, publisher, orders);
  for (const worker of workers) await worker.kill();
  const found = await deadLetters.all();
  assert.deepEqual(
    [...new Set(found.map((message) => message.id))],
    [id],
    "the dead letters are not exactly the poison",
  );
  // A crash between a copy and its ack duplicates the message, with its id.
  assert.ok(found.length <= crashes, `the poison is dead-lettered ${found.length} times after ${crashes} crashes`);
  for (const message of found) assert.equal(message.headers[HEADER.deadReason], "crashed");
  const starts = context.ledger.starts(orders.name, id);
  // Two crashes in quick succession can count as one.
  assert.ok(starts <= STARTS + PREFETCH, `the poison was started ${starts} times`);
  context.note(`${starts} starts, ${found.length} dead letters`);
  // Each crash can lose the acks of handled messages.
  judge(context, { duplicates: crashes * PREFETCH });
}

/** One message of each queue fails once; the others are in handlers whenever the broker restarts. */
async function restartsAreNoCrashes(context: CaseContext): Promise<void> {
  if (!(await supports(context, "durable"))) return;
  const { restart, kill, losesInRestarts, recoveryMs = RECOVERY_MS } = context.harness;
  if (losesInRestarts !== undefined) return context.notApplicable(losesInRestarts);
  if (restart === undefined) return context.notRun("the harness cannot restart the broker");
  const inOrder = context.capabilities.order.support !== "unsupported";
  const orders = context.queue("orders");
  const steps = context.queue("steps", { ordered: true, key: ({ n }) => `k${n}` });
  const queues: readonly Queue<Work>[] = inOrder ? [orders, steps] : [orders];
  const gate = Promise.withResolvers<void>();
  const attempts = new Map<string, number[]>();
  const running = new Map<string, number>();
  const handler = async (body: Work, { id, attempt, destination, signal }: Delivery): Promise<void> => {
    attempts.set(id, [...(attempts.get(id) ?? []), attempt]);
    if (body.poison && attempts.get(id)?.length === 1) throw new Error("once");
    const lost = new Promise<never>((_, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    });
    const count = (by: number): unknown => running.set(destination, (running.get(destination) ?? 0) + by);
    count(1);
    await Promise.race([gate.promise, lost]).finally(() => count(-1));
  };
  const options = { concurrency: 4, prefetch: { messages: 10 }, retry: { attempts: 5, delay: { firstMs: 0 } } };
  const consumers = await Promise.all(
    Array.from({ length: CONSUMERS }, () =>
      context.started({}, (one) => queues.map((each) => one.consume(each, handler, options))),
    ),
  );
  const publisher = await context.started({ destinations: queues });
  for (const each of queues) {
    mustSucceed(await send(context, publisher, each, { n: 0, poison: true }));
    await sendAll(context, publisher, each, works(8));
  }
  for (let round = 0; round < ROUNDS; round++) {
    await context.until("handlers to run", () => queues.every(({ name }) => (running.get(name) ?? 0) >= 4), recoveryMs);
    await (round === 0 ? restart : (kill ?? restart))();
    await context.until("all to be connected", () => consumers.every((one) => one.status().connected), recoveryMs);
  }
  gate.resolve();
  await allEffected(context, recoveryMs);
  for (const each of queues) {
    await drained(context, publisher, each);
    const dead = await (await context.deadLetters(each)).all();
    assert.deepEqual(
      dead.map(({ id, headers }) => `${id} ${headers[HEADER.deadReason]}`),
      [],
      "a message was dead-lettered for a restart of the broker",
    );
  }
  const most = Math.max(...[...attempts.values()].flat());
  assert.ok(most <= 2, `attempt ${most} of a message that failed at most once`);
  const all = [...attempts.values()].reduce((sum, { length }) => sum + length, 0);
  context.note(`${all} starts`);
  judge(context, { duplicates: all });
}

/** After a crash the survivor handles the crashed consumer's messages with full concurrency. */
async function survivorStaysParallel(context: CaseContext): Promise<void> {
  if (!(await supports(context, "order"))) return;
  const processes = await processesOrEnd(context);
  if (processes === undefined) return;
  const steps = context.queue("steps", { ordered: true, key: ({ n }) => `k${n % KEYS}` });
  const publisher = await context.started({ destinations: [steps] });
  const worker = await WorkerProcess.consume(context, processes, {
    queue: steps.name,
    ordered: true,
    behaviour: "gate",
    concurrency: KEYS,
    prefetch: 4 * KEYS,
  });
  await sendAll(context, publisher, steps, works(4 * KEYS));
  await context.until("handlers to run", () => worker.starts >= KEYS / 2);
  await worker.kill();
  const gate = Promise.withResolvers<void>();
  let running = 0;
  const handler = async (): Promise<void> => {
    running++;
    await gate.promise;
    running--;
  };
  await context.started({}, (one) =>
    one.consume(steps, handler, { concurrency: KEYS, prefetch: { messages: 4 * KEYS } }),
  );
  await context.until("several handlers to run at once", () => running >= KEYS / 2);
  gate.resolve();
  await allEffected(context);
  await drained(context, publisher, steps);
  judge(context, { duplicates: 4 * KEYS });
}

/** All processes read what one process writes to the quarantine log of a source. Each source has another log. */
async function sharedLog(context: CaseContext): Promise<void> {
  const [orders, others] = [context.queue("orders"), context.queue("others")];
  await context.started({ destinations: [orders, others] });
  const opened = await Promise.all([
    DirectAdapter.open(context.harness.adapter()),
    DirectAdapter.open(context.harness.adapter()),
  ]);
  for (const direct of opened) context.cleanUp(() => direct.close());
  const [one, other] = opened.map(({ adapter }) => adapter.quarantine({ kind: "queue", name: orders.name }));
  assert.ok(one !== undefined && other !== undefined);
  assert.deepEqual(await one.read(), []);
  const records = Array.from({ length: 30 }, (_, n) => JSON.stringify({ record: n, text: "ü".repeat(200) }));
  await Promise.all(records.map((record, n) => (n % 2 === 0 ? one : other).append(record)));
  const wanted = [...records].sort();
  let last: readonly string[] = [];
  const readsAll = async (log: typeof one): Promise<boolean> => {
    last = await log.read();
    return wanted.every((record) => last.includes(record));
  };
  // Some brokers hide from one reader what another one holds: they take turns.
  await context.until("both to read everything", async () =>
    (await Promise.all([one, other].map(readsAll))).every(Boolean),
  );
  assert.deepEqual([...new Set(last)].sort(), wanted);
  const elsewhere = opened[0]?.adapter.quarantine({ kind: "queue", name: others.name });
  assert.deepEqual(await elsewhere?.read(), []);
}

export const crashes: readonly ConformanceCase[] = [
  {
    number: "28a",
    title: "a poison that kills its process is dead-lettered; other messages are handled",
    timeoutMs: 300_000,
    run: (context) => crashedPoison(context, false),
  },
  {
    number: "28b",
    title: "the same on an ordered queue",
    timeoutMs: 300_000,
    run: (context) => crashedPoison(context, true),
  },
  {
    number: "28c",
    title: "after a crash, the survivor of an ordered queue keeps its concurrency",
    run: survivorStaysParallel,
  },
  {
    number: "28d",
    title: "restarts of the broker while handlers run count no attempt",
    timeoutMs: 600_000,
    alone: true,
    run: restartsAreNoCrashes,
  },
  { number: "28e", title: "all processes read the quarantine log", run: sharedLog },
];
