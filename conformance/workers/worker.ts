// The program of a worker process: gets orders as messages, and reports to a file.
import type { Adapter } from "../../core/adapter.ts";
import { createBroker } from "../../core/create-broker.ts";
import type { Handler } from "../../core/delivery.ts";
import { queue } from "../../core/destination.ts";
import { watch } from "../decorators/watch.ts";
import type { ProcessAdapter } from "../harness.ts";
import { logWriter } from "./log.ts";
import type { ConsumeOrder, PublishOrder, WorkerOrder, WorkerReport } from "./orders.ts";

interface Body {
  readonly n: number;
  readonly poison?: boolean;
}

type Report = (report: WorkerReport) => void;

const gate = Promise.withResolvers<void>();

async function makeAdapter({ module, options }: ProcessAdapter): Promise<Adapter> {
  const exports = (await import(module)) as { createAdapter(options: unknown): Adapter };
  return exports.createAdapter(options);
}

function die(): Promise<never> {
  process.kill(process.pid, "SIGKILL");
  return new Promise(() => {});
}

function handler(order: ConsumeOrder, report: Report): Handler<Body> {
  return async (body, { id, attempt }) => {
    report({ type: "start", id, attempt, print: JSON.stringify(body) });
    if (body.poison && order.behaviour === "kill-self-on-poison") await die();
    if (body.poison && order.behaviour === "throw-poison") throw new Error("poison");
    if (order.behaviour === "throw") throw new Error("as ordered");
    if (order.behaviour === "gate" || (body.poison && order.behaviour === "gate-poison")) await gate.promise;
    report({ type: "effect", id });
  };
}

async function consume(order: ConsumeOrder, report: Report): Promise<void> {
  const { adapter } = watch(await makeAdapter(order.adapter), (source, id) => {
    if (source === order.queue) report({ type: "acked", id });
  });
  const broker = createBroker(adapter);
  broker.consume(queue<Body>(order.queue, { ordered: order.ordered }), handler(order, report), {
    ...(order.silenceMs === undefined ? {} : { quarantine: { silenceMs: order.silenceMs } }),
    concurrency: order.concurrency,
    prefetch: { messages: order.prefetch },
    retry: { attempts: order.attempts, delay: { firstMs: order.retryMs, factor: 1, jitter: 0 } },
  });
  await broker.start();
  report({ type: "ready" });
}

async function publish(order: PublishOrder, report: Report): Promise<void> {
  const to = queue<Body>(order.queue);
  const broker = createBroker(await makeAdapter(order.adapter), { destinations: [to] });
  await broker.start();
  report({ type: "ready" });
  let next = 0;
  let confirmed = 0;
  const call = async (): Promise<void> => {
    while (next < order.ids.length) {
      const n = next++;
      const id = order.ids[n] as string;
      const body = { n };
      report({ type: "attempted", id, print: JSON.stringify(body) });
      await broker.send(to, body, { id });
      report({ type: "confirmed", id });
      if (++confirmed >= order.dieAfter) await die();
    }
  };
  await Promise.all(Array.from({ length: order.callers }, call));
}

async function obey(order: WorkerOrder): Promise<void> {
  if (order.type === "open-gate") return gate.resolve();
  const report = logWriter(order.log);
  try {
    await (order.type === "consume" ? consume(order, report) : publish(order, report));
  } catch (error) {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    const problems = (error as { problems?: readonly Error[] }).problems ?? [];
    report({ type: "broken", message: [text, ...problems.map(String)].join("\n") });
  }
}

process.on("message", (order) => void obey(order as WorkerOrder));
// The parent process is gone.
process.on("disconnect", () => process.exit(1));
