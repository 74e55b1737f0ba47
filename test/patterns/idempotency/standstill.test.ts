import { describe, expect, it } from "vitest";
import { sent, world } from "./world.ts";

describe("a claim", () => {
  it.for(["throws", "returns"] as const)(
    "lost while the process stood still, as one does whose handler blocks it, uses up an attempt: it %s",
    async (how) => {
      const { begin, clock, sleep, until, events } = world({ leaseMs: 900, waitMs: 0, storeTimeoutMs: 100 });
      const schedule = clock.schedule.bind(clock);
      let late = 0;
      clock.schedule = (run, ms) => schedule(run, ms === 300 && late++ === 0 ? 5_000 : ms);
      const first = begin(sent("m-1"), async (_, { signal }) => {
        await until(() => signal.aborted);
        if (how === "throws") throw signal.reason;
      });
      const others: ReturnType<typeof begin>[] = [];
      void sleep(1_000).then(() => others.push(begin(sent("m-1"), () => sleep(60_000))));
      await until(() => first.end !== undefined);
      expect(first.end).toMatchObject({ threw: { code: "timeout", message: expect.stringContaining("was blocked") } });
      expect(events.filter(({ type }) => type === "postponed")).toEqual([]);
      expect(others[0]?.end).toBeUndefined();
    },
  );

  it("lost by a silence that is only heard of late uses up an attempt", async () => {
    const { begin, clock, until, store } = world({ leaseMs: 900, storeTimeoutMs: 200 });
    const schedule = clock.schedule.bind(clock);
    // The answer to the first renewal is found missing seconds later, as after a handler that blocked the event loop.
    clock.schedule = (run, ms) => schedule(run, ms === 200 && store.made("claim") === 1 ? 5_000 : ms);
    store.moods = { renew: "silent" };
    const first = begin(sent("m-1"), async (_, { signal }) => {
      await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
    });
    await until(() => first.end !== undefined);
    expect(first.end).toMatchObject({ threw: { code: "timeout" } });
  });
});
