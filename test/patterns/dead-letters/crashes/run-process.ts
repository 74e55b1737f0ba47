// A process that takes up a plan, and kills itself at a step if it is told to. Its order is its one argument, as JSON; the
// result is what it prints.

import type { ProcessAdapter } from "../../../../conformance/harness.ts";
import type { Adapter } from "../../../../core/adapter.ts";
import { createBroker } from "../../../../core/create-broker.ts";
import { queue } from "../../../../core/destination.ts";
import { deadLetters, fileArchive, type Plan } from "../../../../patterns/dead-letters/index.ts";
import { Death, mortal, mortalArchive, type Step } from "./steps.ts";

export interface RunOrder {
  readonly adapter: ProcessAdapter;
  readonly queue: string;
  readonly plan: Plan;
  /** For a discard. */
  readonly archive: string;
  readonly dieAt: Step | undefined;
  readonly patienceMs: number;
}

const order = JSON.parse(process.argv[2] ?? "") as RunOrder;
const { createAdapter } = (await import(order.adapter.module)) as { createAdapter(options: unknown): Adapter };
// A few go well before.
const death = new Death(order.dieAt, 3, () => {
  process.kill(process.pid, "SIGKILL");
  // The signal takes effect at the latest when this is waited for.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
});
const orders = queue(order.queue);
const broker = createBroker(mortal(createAdapter(order.adapter.options), death), { destinations: [orders] });
await broker.start();
const dead = deadLetters(broker, orders, { patienceMs: order.patienceMs });
const file = fileArchive(order.archive);
const isReplay = order.plan.action === "replay";
// One after another, so that each death takes a few with it and leaves the others.
const { run } = await dead.resume(order.plan, isReplay ? { rate: 100 } : { archive: mortalArchive(file, death) });
death.begin();
const { done, missing, failed, stopped, error } = await run({
  onProgress: () => void death.step("progress"),
});
await file.close();
await broker.stop();
console.log(JSON.stringify({ done, missing, failed, stopped, error: error?.message }));
