import assert from "node:assert/strict";
import type { ConformanceCase } from "../case.ts";
import type { CaseContext } from "../context.ts";
import { allEffected, drained, judge } from "../judge.ts";
import { processesOrEnd } from "../processes.ts";
import { callers, send, sendAll } from "../publishing.ts";
import { supports } from "../refusals.ts";
import { WorkerProcess } from "../workers/worker-process.ts";
import { works } from "./works.ts";

const MESSAGES = 10_000;
const PUBLISHERS = 100;
const PREFETCH = 200;
const RECOVERY_MS = 180_000;

async function brokerRestarts(context: CaseContext): Promise<void> {
  if (!(await supports(context, "durable"))) return;
  const { restart, kill, losesInRestarts, recoveryMs = RECOVERY_MS } = context.harness;
  if (losesInRestarts !== undefined) return context.notApplicable(losesInRestarts);
  if (restart === undefined) return context.notRun("the harness cannot restart the broker");
  const orders = context.queue("orders");
  const options = { concurrency: 50, prefetch: { messages: PREFETCH } };
  const consuming = await context.started({}, (one) => one.consume(orders, () => {}, options));
  const publisher = await context.started({ destinations: [orders], publish: { timeoutMs: 60_000 } });
  const load = callers(MESSAGES, PUBLISHERS, (n) => send(context, publisher, orders, { n }));
  const { ledger } = context;
  await context.until("a quarter to be confirmed", () => ledger.outcomes("confirmed") >= MESSAGES / 4);
  await restart();
  await context.until("work to resume", () => ledger.outcomes("confirmed") >= MESSAGES / 2, recoveryMs);
  // The second time with a kill, if the harness can.
  await (kill ?? restart)();
  await context.until("every publish to end", () => ledger.outcomes("pending") === 0, recoveryMs);
  await load;
  await context.until(
    "work to resume",
    () => consuming.status().connected && publisher.status().connected,
    RECOVERY_MS,
  );
  // The same two broker objects send and handle again.
  await sendAll(context, publisher, orders, works(100));
  await allEffected(context, recoveryMs);
  await drained(context, publisher, orders);
  const refused = ledger.outcomes("refused");
  const unknown = ledger.outcomes("unknown");
  const { recovered } = ledger.verdict();
  const confirmed = ledger.outcomes("confirmed");
  context.note(`${confirmed} confirmed, ${refused} refused, ${unknown} unknown, ${recovered.length} recovered`);
  // At each restart: unanswered publishes are sent again with their ids, and deliveries whose acks were lost, at most a
  // prefetch, come again.
  judge(context, { duplicates: 2 * (PUBLISHERS + PREFETCH) });
  assert.ok(ledger.outcomes("confirmed") >= MESSAGES / 2, "most publishes failed after the restarts");
}

async function startsWhileUnreachable(context: CaseContext): Promise<void> {
  // An adapter that is not durable is in this process, and always reachable.
  if (!(await supports(context, "durable"))) return;
  const { restart, recoveryMs = RECOVERY_MS } = context.harness;
  if (restart === undefined) return context.notRun("the harness cannot restart the broker");
  const orders = context.queue("orders");
  const broker = context.broker();
  broker.consume(orders, () => {});
  const restarting = restart();
  try {
    await broker.start({ waitMs: recoveryMs });
  } finally {
    // Later cases need the broker, even if this start failed.
    await restarting;
  }
  // The start may have come before the restart: then it reconnects.
  await context.until("work to be done", () => broker.status().connected, recoveryMs);
  await sendAll(context, broker, orders, works(10));
  await allEffected(context, recoveryMs);
  const tries = context.events.filter(({ type }) => type === "notice").length;
  context.note(`${tries} failed tries`);
}

async function killedMidHandler(context: CaseContext): Promise<void> {
  const processes = await processesOrEnd(context);
  if (processes === undefined) return;
  const orders = context.queue("orders");
  const prefetch = 10;
  const publisher = await context.started({ destinations: [orders] });
  const order = { queue: orders.name, prefetch, concurrency: 5 };
  const busy = await WorkerProcess.consume(context, processes, order);
  const held = await WorkerProcess.consume(context, processes, { ...order, behaviour: "gate" });
  const load = sendAll(context, publisher, orders, works(1_000));
  await context.until(
    "one consumer to run handlers and the other to have handled 50",
    () => held.starts === 5 && busy.effects >= 50,
  );
  await Promise.all([busy.kill(), held.kill()]);
  await load;
  publisher.consume(orders, () => {});
  await allEffected(context);
  await drained(context, publisher, orders);
  assert.equal(held.effects, 0);
  for (const [id] of held.attempts)
    assert.equal(context.ledger.effects(orders.name, id), 1, `${id} was not redelivered`);
  judge(context, { duplicates: prefetch });
}

export const faults: readonly ConformanceCase[] = [
  {
    number: "31",
    title: "10,000 messages, 100 publishers, two restarts of the broker: no confirmed message is lost",
    timeoutMs: 600_000,
    alone: true,
    run: brokerRestarts,
  },
  {
    number: "31a",
    title: "a start with `waitMs` waits for a restarting broker",
    timeoutMs: 600_000,
    alone: true,
    run: startsWhileUnreachable,
  },
  {
    number: "32",
    title: "SIGKILL of a consumer during handlers: all are redelivered; duplicates ≤ in flight",
    run: killedMidHandler,
  },
];
