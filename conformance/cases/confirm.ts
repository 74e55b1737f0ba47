import assert from "node:assert/strict";
import type { CaseContext } from "../context.ts";
import { allEffected, drained, judge } from "../judge.ts";
import { mustSucceed, send } from "../publishing.ts";
import { WorkerProcess } from "../workers/worker-process.ts";

const MESSAGES = 200;

/**
 * A confirmed message is stored at that moment. An exact depth shows it at once. A publisher that is killed after
 * confirms loses none of the confirmed messages.
 */
export async function confirmedIsStored(context: CaseContext): Promise<void> {
  await depthShowsConfirmed(context);
  if (context.harness.processes === undefined) {
    context.note("the publisher was not killed: the harness has no `processes`");
    return;
  }
  const orders = context.queue("from-the-dead");
  const broker = await context.started({ destinations: [orders] });
  const ids = Array.from({ length: MESSAGES }, () => context.id());
  const publisher = await WorkerProcess.publish(context, context.harness.processes, {
    queue: orders.name,
    ids,
    callers: 20,
    dieAfter: MESSAGES / 2,
  });
  await context.until("the publisher to die", () => !publisher.running);
  await publisher.kill();
  context.ledger.publisherDied();
  assert.ok(publisher.confirmed.size >= MESSAGES / 2, "the publisher died too early");
  broker.consume(orders, () => {});
  await allEffected(context);
  await drained(context, broker, orders);
  // No confirm was late, so no message was sent twice.
  judge(context);
}

async function depthShowsConfirmed(context: CaseContext): Promise<void> {
  const counted = context.queue("counted");
  const broker = await context.started({ destinations: [counted] });
  const { exact } = await broker.depth(counted);
  for (let sent = 1; sent <= 20; sent++) {
    mustSucceed(await send(context, broker, counted, { n: sent }));
    if (!exact) continue;
    const { ready } = await broker.depth(counted);
    assert.equal(ready, sent, `${sent} messages are confirmed and ${ready} are on the queue`);
  }
  broker.consume(counted, () => {});
  await allEffected(context);
  await drained(context, broker, counted);
}
