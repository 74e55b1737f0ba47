import { setImmediate as turn } from "node:timers/promises";
import { createBroker } from "anybroker";
import { memory } from "anybroker/memory";
import PQueue from "p-queue";
import { freshQueue, ORDER, type Order } from "./body.ts";
import { type Comparison, callsPerSecond, countdown } from "./measure.ts";

const MESSAGES = 100_000;
const CONCURRENCY = 10;

type Work = (order: Order) => Promise<void>;

/** What the engine costs: a queue of functions against messages that are encoded, stored, delivered and settled. */
export function inProcess(): readonly Comparison[] {
  // A handler that waits for one turn of the event loop: the least that anything which does input or output waits.
  const waits: Work = async () => {
    await turn();
  };
  const returns: Work = async () => {};
  return [
    compared("in process, handlers that wait a turn", 0.5, waits),
    compared("in process, handlers that return at once", undefined, returns),
  ];
}

function compared(title: string, target: number | undefined, work: Work): Comparison {
  return {
    title: `${title}, sent at once, ${CONCURRENCY} at a time`,
    unit: "messages/s",
    better: "higher",
    target,
    rounds: 5,
    theirs: { name: "p-queue", run: () => pQueue(work) },
    ours: { name: "anybroker/memory", run: () => ours(work) },
  };
}

async function pQueue(work: Work): Promise<number> {
  const queue = new PQueue({ concurrency: CONCURRENCY });
  return callsPerSecond(MESSAGES, MESSAGES, () => queue.add(() => work(ORDER)));
}

async function ours(work: Work): Promise<number> {
  const orders = freshQueue("in-process");
  const broker = createBroker(memory(), { publish: { maxMessages: MESSAGES, maxBytes: 2 ** 30 } });
  const { tick, done } = countdown(MESSAGES);
  broker.consume(
    orders,
    async (order) => {
      await work(order);
      tick();
    },
    { concurrency: CONCURRENCY },
  );
  await broker.start();
  const begin = performance.now();
  await callsPerSecond(MESSAGES, MESSAGES, () => broker.send(orders, ORDER));
  await done;
  const perSecond = (MESSAGES * 1_000) / (performance.now() - begin);
  await broker.stop();
  return perSecond;
}
