// A relay in a process of its own, which kills itself at a step if it is told to. Its order is its one argument, as JSON.
// It ends by itself when nothing is left to send.

import type { ProcessAdapter } from "../../../conformance/harness.ts";
import type { OpenOutbox, ProcessPlace } from "../../../conformance/outbox/index.ts";
import type { Adapter } from "../../../core/adapter.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { queue } from "../../../core/destination.ts";
import { createRelay } from "../../../patterns/outbox/relay.ts";
import type { OutboxStore } from "../../../patterns/outbox/store.ts";
import type { Step } from "./relay-world.ts";

export interface RelayOrder {
  readonly adapter: ProcessAdapter;
  readonly outbox: ProcessPlace;
  readonly queue: string;
  readonly leaseMs: number;
  readonly dieAt: Step | undefined;
  /** The how manieth time it comes to that step. */
  readonly nth: number;
}

const order = JSON.parse(process.argv[2] ?? "") as RelayOrder;
let times = 0;

function step(here: Step): void {
  if (here !== order.dieAt || ++times < order.nth) return;
  process.kill(process.pid, "SIGKILL");
  // The signal takes effect at the latest when this is waited for.
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}

function mortalStore(inner: OutboxStore<unknown>): OutboxStore {
  return {
    name: inner.name,
    insert: () => {},
    claim: async (request) => {
      step("claim");
      const claim = await inner.claim(request);
      if (claim !== undefined) step("claimed");
      return claim;
    },
    renew: (token, leaseMs) => inner.renew(token, leaseMs),
    settle: async (token, settlements) => {
      step("mark");
      const unchanged = await inner.settle(token, settlements);
      step("marked");
      return unchanged;
    },
    listQuarantined: (request) => inner.listQuarantined(request),
    retryQuarantined: (positions) => inner.retryQuarantined(positions),
    discardQuarantined: (positions) => inner.discardQuarantined(positions),
    clean: (limit) => inner.clean(limit),
    health: () => inner.health(),
  };
}

function mortalAdapter(adapter: Adapter): Adapter {
  const send = adapter.send.bind(adapter);
  adapter.send = (to, batch, report) => {
    step("publish");
    send(to, batch, (index, result) => {
      if (result.status === "confirmed") step("confirm");
      report(index, result);
    });
  };
  return adapter;
}

const { createAdapter } = (await import(order.adapter.module)) as { createAdapter(options: unknown): Adapter };
const { openOutbox } = (await import(order.outbox.module)) as {
  openOutbox(options: unknown): Promise<OpenOutbox<unknown>>;
};
const opened = await openOutbox(order.outbox.options);
const broker = createBroker(mortalAdapter(createAdapter(order.adapter.options)), {
  destinations: [queue(order.queue, { ordered: true })],
});
await broker.start();
const relay = createRelay({
  store: mortalStore(opened.store),
  broker,
  leaseMs: order.leaseMs,
  pollMs: 100,
  batchSize: 100,
});
await relay.start();
await relay.drain();
await relay.stop();
await broker.stop();
await opened.close();
