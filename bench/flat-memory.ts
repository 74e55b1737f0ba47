import { createBroker } from "anybroker";
import { memory } from "anybroker/memory";
import { freshQueue, ORDER } from "./body.ts";
import { callsPerSecond, countdown } from "./measure.ts";

const ROUNDS = 10;
const MESSAGES_PER_ROUND = 100_000;

/** The heap after each tenth of a million messages, in MiB, collected first. Needs `--expose-gc`. */
export async function flatMemory(): Promise<readonly number[]> {
  const collect = globalThis.gc;
  if (collect === undefined) throw new Error("run with node --expose-gc, as npm run bench does");
  const orders = freshQueue("memory");
  const broker = createBroker(memory());
  let tick = (): void => {};
  broker.consume(orders, async () => tick());
  await broker.start();
  const heaps: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const round = countdown(MESSAGES_PER_ROUND);
    tick = round.tick;
    await callsPerSecond(100, MESSAGES_PER_ROUND, () => broker.send(orders, ORDER));
    await round.done;
    collect();
    heaps.push(process.memoryUsage().heapUsed / 2 ** 20);
  }
  await broker.stop();
  return heaps;
}
