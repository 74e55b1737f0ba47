import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Receiver, SettleResult } from "../../core/adapter.ts";
import { InFlightDelivery } from "../../core/consume/in-flight.ts";
import { AckBatcher } from "../../core/consume/receiver.ts";
import { VirtualTime } from "../simulation/virtual-time.ts";
import { incoming } from "./recording-adapter.ts";

describe("AckBatcher", () => {
  it("settles each exactly once with what the broker said, and none while leases are extended", async () => {
    const settlement = fc.record({
      at: fc.nat({ max: 100 }),
      action: fc.constantFrom("ack" as const, "requeue" as const),
      result: fc.constantFrom<SettleResult>("settled", "fenced"),
    });
    const extensions = fc.array(fc.record({ at: fc.nat({ max: 100 }), takes: fc.nat({ max: 30 }) }), { maxLength: 1 });
    const takes = fc.array(fc.nat({ max: 40 }), { minLength: 1, maxLength: 5 });
    await fc.assert(
      fc.asyncProperty(fc.array(settlement, { maxLength: 40 }), extensions, takes, async (list, extensions, takes) => {
        const time = new VirtualTime();
        let extending = false;
        let batches = 0;
        const seen: unknown[] = [];
        const later = <Result>(make: () => Result, ms: number): Promise<Result> =>
          new Promise((resolve) => time.schedule(() => resolve(make()), ms));
        const receiver: Receiver = {
          leaseMs: 1_000,
          prefetch: () => {},
          close: async () => {},
          settle: (batch) => {
            expect(extending).toBe(false);
            expect(batch.length).toBeGreaterThan(0);
            seen.push(...batch.map(({ token, action }) => `${token} ${action}`));
            const results = batch.map(({ token }) => list[Number(token)]?.result ?? "fenced");
            return later(() => results, takes[batches++ % takes.length] ?? 0);
          },
          extend: (batch) => {
            extending = true;
            return later(() => {
              extending = false;
              return batch.map(() => true);
            }, extensions[0]?.takes ?? 0);
          },
        };
        const ends = new Map<unknown, string[]>();
        const batcher = new AckBatcher(receiver, ({ incoming: { token } }, action, result) => {
          ends.set(token, [...(ends.get(token) ?? []), `${action} ${result}`]);
        });
        for (const [index, { at, action }] of list.entries()) {
          const delivery = new InFlightDelivery(incoming(`${index}`), index, 0, () => {});
          time.schedule(() => batcher.settle(delivery, action), at);
        }
        for (const { at } of extensions) time.schedule(() => void batcher.extend([]), at);
        let idle = false;
        time.schedule(() => void batcher.idle().then(() => (idle = true)), 101);
        await time.until(() => false, 100_000);
        for (const [index, { action, result }] of list.entries())
          expect(ends.get(`${index}`)).toEqual([`${action} ${result}`]);
        expect(new Set(seen).size).toBe(list.length);
        expect(seen.length).toBe(list.length);
        expect(idle).toBe(true);
      }),
      { numRuns: 200 },
    );
  });
});
