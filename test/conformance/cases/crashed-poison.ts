import assert from "node:assert/strict";
import { HEADER } from "../../../core/index.ts";
import type { CaseContext } from "../context.ts";
import { drained, judge } from "../judge.ts";
import { processesOrEnd } from "../processes.ts";
import { mustSucceed, send, sendAll } from "../publishing.ts";
import { WorkerProcess } from "../workers/worker-process.ts";
import { works } from "./works.ts";

const ATTEMPTS = 3;
const WINDOW = 4;
const WORKERS = 2;
const OTHERS = 40;
/** More deaths than this are a crash loop. */
const MOST_DEATHS = 40;

/** A message whose handler kills its process, time and again, until it is told from those beside it. */
export async function crashedPoison(context: CaseContext): Promise<void> {
  const processes = await processesOrEnd(context);
  if (processes === undefined) return;
  const orders = context.queue("orders");
  const publisher = await context.started({ destinations: [orders] });
  const graves = await context.deadLetters(orders);
  const id = context.id();
  await sendAll(context, publisher, orders, works(OTHERS / 2));
  mustSucceed(await send(context, publisher, orders, { n: -1, poison: true }, { id }));
  await sendAll(context, publisher, orders, works(OTHERS / 2));
  const employ = (): Promise<WorkerProcess> =>
    WorkerProcess.consume(context, processes, {
      queue: orders.name,
      behaviour: "kill-self-on-poison",
      concurrency: 2,
      window: WINDOW,
      attempts: ATTEMPTS,
    });
  const workers = await Promise.all(Array.from({ length: WORKERS }, employ));
  let deaths = 0;
  // Not counted by effects: some have two. What the queue no longer holds may be among the suspects yet.
  const others = (): boolean => context.ledger.verdict().lost.every((entry) => entry === `${orders.name}/${id}`);
  const done = (): boolean => graves.messages.length > 0 && others();
  while (!done()) {
    const dead = (): number => workers.findIndex((worker) => !worker.running);
    await context.until("the poison to be buried, or to kill again", () => done() || dead() >= 0);
    if (dead() < 0) continue;
    assert.ok(++deaths <= MOST_DEATHS, `${deaths} workers were killed by one message\n${context.ledger.describe()}`);
    await workers[dead()]?.kill();
    workers[dead()] = await employ();
  }
  await drained(context, publisher, orders);
  for (const worker of workers) await worker.kill();
  const found = await graves.all();
  assert.deepEqual(
    [...new Set(found.map((message) => message.id))],
    [id],
    "the poison, and nothing else, is dead-lettered",
  );
  // A death between a copy and its ack leaves the message twice, under its id.
  assert.ok(found.length <= deaths, `the poison is dead-lettered ${found.length} times after ${deaths} deaths`);
  for (const message of found) assert.equal(message.headers[HEADER.deadReason], "crashed");
  const starts = context.ledger.starts(orders.name, id);
  assert.ok(starts <= ATTEMPTS + WINDOW, `the poison was started ${starts} times`);
  context.note(`${starts} starts, ${found.length} dead letters`);
  // Each death may have taken with it what was done and not yet acked.
  judge(context, { duplicates: deaths * WINDOW });
}
