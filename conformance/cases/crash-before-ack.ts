import assert from "node:assert/strict";
import type { Queue } from "../../core/destination.ts";
import type { CaseContext, Work } from "../context.ts";
import { watch } from "../decorators/watch.ts";
import { allEffected, drained, judge } from "../judge.ts";
import { mustSucceed, send } from "../publishing.ts";
import { WorkerProcess } from "../workers/worker-process.ts";

/** M is `first`, M+1 is `next`. */
interface Pair {
  readonly orders: Queue<Work>;
  readonly first: string;
  readonly next: string;
}

type Fate = "failing" | "running";

/** M fails or runs, M+1 is acked, and the consumer crashes: M is redelivered, M+1 is not. */
export async function failedBeforeAcked(context: CaseContext): Promise<void> {
  if (context.harness.processes === undefined) {
    context.note("the adapter was closed instead of a crash: the harness has no `processes`");
  }
  for (const fate of ["failing", "running"] as const) {
    const orders = context.queue(fate);
    const pair = { orders, first: context.id(), next: context.id() };
    const publisher = await context.started({ destinations: [orders] });
    mustSucceed(await send(context, publisher, orders, { n: 0, poison: true }, { id: pair.first }));
    mustSucceed(await send(context, publisher, orders, { n: 1 }, { id: pair.next }));
    if (context.harness.processes === undefined) await crashHere(context, pair, fate);
    else await crashElsewhere(context, pair, fate);
    const survivor = await context.started({}, (one) => one.consume(orders, () => {}));
    await allEffected(context);
    await drained(context, survivor, orders);
    assert.equal(context.ledger.effects(orders.name, pair.next), 1, "M+1 was acked and redelivered");
  }
  // A crash between the copy of the failing M and its ack duplicates it, with one id.
  judge(context, { duplicates: 1 });
}

async function crashHere(context: CaseContext, { orders, first, next }: Pair, fate: Fate): Promise<void> {
  const watched = watch(context.harness.adapter());
  const handler = (body: Work): Promise<void> | void => {
    if (!body.poison) return;
    if (fate === "running") return new Promise(() => {});
    throw new Error("poison");
  };
  const retry = { attempts: 1_000, delay: { firstMs: 100, factor: 1 } };
  await context.started({}, (one) => one.consume(orders, handler, { retry }), watched.adapter);
  const { acked } = watched.traffic(orders.name);
  const started = (): boolean => context.ledger.starts(orders.name, first) > 0;
  await context.until(`M to be ${fate} and M+1 to be acked`, () => started() && acked.includes(next));
  await watched.adapter.close();
}

async function crashElsewhere(context: CaseContext, { orders, first, next }: Pair, fate: Fate): Promise<void> {
  const { processes } = context.harness;
  if (processes === undefined) return;
  const behaviour = fate === "running" ? "gate-poison" : "throw-poison";
  const order = { queue: orders.name, behaviour, attempts: 1_000, retryMs: 100 } as const;
  const worker = await WorkerProcess.consume(context, processes, order);
  const started = (): boolean => worker.attempts.has(first);
  await context.until(`M to be ${fate} and M+1 to be acked`, () => started() && worker.acked.has(next));
  await worker.kill();
}
