// The program of a worker that a case kills: consumes with a store in SQLite, and writes down what it does.
import { setTimeout as sleep } from "node:timers/promises";
import type { ProcessAdapter } from "../../../conformance/index.ts";
import { logWriter } from "../../../conformance/workers/log.ts";
import type { Adapter } from "../../../core/adapter.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { queue } from "../../../core/destination.ts";
import { idempotent } from "../../../patterns/idempotency/index.ts";
import { openStore } from "./sqlite-database.ts";

/** What a worker is told to do. */
export interface WorkOrder {
  readonly adapter: ProcessAdapter;
  /** The SQLite file of the keys. */
  readonly file: string;
  readonly log: string;
  readonly queue: string;
  readonly leaseMs: number;
  readonly concurrency: number;
  /** Whether handlers never come to their effect. */
  readonly stall: boolean;
}

async function work(order: WorkOrder): Promise<void> {
  const report = logWriter(order.log);
  try {
    const module = (await import(order.adapter.module)) as { createAdapter(options: unknown): Adapter };
    const broker = createBroker(module.createAdapter(order.adapter.options));
    const { store } = openStore(order.file);
    const use = [idempotent(store, { leaseMs: order.leaseMs, waitMs: 200, postponeMs: 200 })];
    broker.consume(
      queue<{ n: number }>(order.queue),
      async (body, { id, attempt }) => {
        report({ type: "start", id, attempt, print: JSON.stringify(body) });
        await (order.stall ? new Promise(() => {}) : sleep(5));
        report({ type: "effect", id });
      },
      { concurrency: order.concurrency, use },
    );
    await broker.start();
    report({ type: "ready" });
  } catch (error) {
    report({ type: "broken", message: error instanceof Error ? (error.stack ?? error.message) : String(error) });
  }
}

process.on("message", (order) => void work(order as WorkOrder));
// The one who gives the orders is gone.
process.on("disconnect", () => process.exit(1));
