import { randomUUID } from "node:crypto";
import { expect, type TestContext, test } from "vitest";
import { memory } from "../../../adapters/memory/index.ts";
import type { OpenStore } from "../../../conformance/idempotency/index.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { queue } from "../../../core/destination.ts";
import { type IdempotencyEvent, idempotent } from "../../../patterns/idempotency/index.ts";
import type { RunningBroker } from "../../brokers/contract.ts";
import { controlsOrNotRun } from "../../brokers/suite.ts";

const MESSAGES = 60;
const PATIENCE = { timeout: 60_000 };
const LEASE_MS = 300_000;
/** A claim that was taken, and whose answer died with the server, is nobody's until its lease is over. */
const ORPHANED = { leaseMs: 20_000, timeout: 180_000 };

/** Consumers on the in-process broker, with a store whose server is taken away while they work. */
export function consumersInOutages(server: RunningBroker, open: () => OpenStore | Promise<OpenStore>): void {
  async function consuming(leaseMs: number) {
    const { store, close } = await open();
    const orders = queue<{ n: number }>("orders");
    const broker = createBroker(memory());
    const effects = new Map<string, number>();
    const events: IdempotencyEvent[] = [];
    const use = [
      idempotent(store, {
        leaseMs,
        storeTimeoutMs: 1_000,
        waitMs: 100,
        postponeMs: 500,
        onEvent: (event) => events.push(event),
      }),
    ];
    const consumer = broker.consume(
      orders,
      (_, { id }) => {
        effects.set(id, (effects.get(id) ?? 0) + 1);
      },
      { retry: { attempts: 1 }, concurrency: 4, use },
    );
    await broker.start();
    return {
      effects,
      consumer,
      count: (wanted: (event: IdempotencyEvent) => boolean) => events.filter(wanted).length,
      sendTwice: async () => {
        const ids = Array.from({ length: MESSAGES }, () => randomUUID());
        await Promise.all(ids.flatMap((id, n) => [0, 1].map(() => broker.send(orders, { n }, { id }))));
        return ids;
      },
      stop: async () => {
        await broker.stop();
        await close();
      },
    };
  }

  const waitsForStore = (event: IdempotencyEvent) => event.type === "postponed" && event.because === "store";
  const isDuplicate = ({ type }: IdempotencyEvent) => type === "duplicate";

  async function withConsuming(
    leaseMs: number,
    run: (work: Awaited<ReturnType<typeof consuming>>) => Promise<void>,
  ): Promise<void> {
    const work = await consuming(leaseMs);
    try {
      await run(work);
    } finally {
      await work.stop();
    }
  }

  function faults(context: TestContext) {
    const { kill, start, pause, resume } = controlsOrNotRun(server, context);
    return { killed: { begin: kill, end: start }, frozen: { begin: pause, end: resume } };
  }

  test.for(["killed", "frozen"] as const)("what comes while the server is %s waits", async (fault, context) => {
    const { begin, end } = faults(context)[fault];
    await withConsuming(LEASE_MS, async ({ effects, consumer, count, sendTwice }) => {
      await sendTwice();
      await expect.poll(() => count(isDuplicate), PATIENCE).toBe(MESSAGES);
      await begin();
      const ids = await sendTwice();
      try {
        await expect.poll(() => count(waitsForStore), PATIENCE).toBeGreaterThanOrEqual(8);
        expect(ids.filter((id) => effects.has(id))).toEqual([]);
      } finally {
        await end();
      }
      await expect.poll(() => count(isDuplicate), PATIENCE).toBe(2 * MESSAGES);
      expect(ids.map((id) => effects.get(id))).toEqual(ids.map(() => 1));
      expect(consumer.status()).toMatchObject({ failed: 0, deadLettered: 0 });
    });
  });

  test.for(["killed", "frozen"] as const)(
    "the server is %s in the middle: each has one effect",
    async (fault, context) => {
      const { begin, end } = faults(context)[fault];
      await withConsuming(ORPHANED.leaseMs, async ({ effects, consumer, count, sendTwice }) => {
        const ids = await sendTwice();
        await expect.poll(() => effects.size, { ...PATIENCE, interval: 1 }).toBeGreaterThan(0);
        await begin();
        await end();
        await expect.poll(() => count(isDuplicate), ORPHANED).toBe(MESSAGES);
        expect(ids.map((id) => effects.get(id))).toEqual(ids.map(() => 1));
        expect(consumer.status()).toMatchObject({ failed: 0, deadLettered: 0 });
      });
    },
  );
}
