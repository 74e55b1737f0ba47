import { describe, expect, it } from "vitest";
import type { Delivery } from "../../../core/delivery.ts";
import { MessagingError } from "../../../core/errors.ts";
import { sent, world } from "./world.ts";

const DONE = { returned: undefined };
const POSTPONED = { returned: { afterMs: expect.any(Number) } };

describe("a store that does not answer", () => {
  it.for(["down", "silent"] as const)("keeps the message waiting, and postpones it: %s", async (mood) => {
    const { handle, store, events, time } = world({ waitMs: 3_000, storeTimeoutMs: 1_000 });
    store.mood = mood;
    let runs = 0;
    const handler = () => void runs++;
    for (let round = 1; round <= 3; round++) expect(await handle(sent("m-1"), handler)).toMatchObject(POSTPONED);
    expect(runs).toBe(0);
    expect(time.now).toBeLessThanOrEqual(3 * (3_000 + 1_000));
    const because = events.filter(({ type }) => type === "postponed");
    expect(because).toHaveLength(3);
    expect(because[0]).toMatchObject({ because: "store" });
    expect(events[0]).toMatchObject({ type: "store-failed", call: "claim", id: "m-1" });
    store.mood = "well";
    // What was claimed for nobody is free again, or will be when its lease ends.
    while (runs === 0) await handle(sent("m-1"), handler);
    expect(await handle(sent("m-1"), handler)).toEqual(DONE);
    expect(runs).toBe(1);
  });

  it("is asked again while the message waits", async () => {
    const { begin, store, until, sleep } = world();
    store.mood = "down";
    let runs = 0;
    const state = begin(sent("m-1"), () => void runs++);
    void sleep(2_000).then(() => {
      store.mood = "well";
    });
    await until(() => state.end !== undefined);
    expect([state.end, runs]).toEqual([DONE, 1]);
  });

  it("gets back a claim that it granted too late", async () => {
    const { handle, store, sleep, clock, until } = world({ waitMs: 0, storeTimeoutMs: 100 });
    const { claim } = store.inner;
    store.inner.claim = async (key, leaseMs) => {
      const result = await claim.call(store.inner, key, leaseMs);
      await sleep(5_000);
      return result;
    };
    expect(await handle(sent("m-1"), () => {})).toMatchObject(POSTPONED);
    await until(() => store.made("release") === 1);
    store.inner.claim = claim;
    expect(await handle(sent("m-1"), () => {})).toEqual(DONE);
    expect(clock.pending).toBe(0);
  });

  it("is not believed when what it answers too late is no answer", async () => {
    const { handle, store, sleep, until } = world({ waitMs: 0, storeTimeoutMs: 100 });
    const unhandled: unknown[] = [];
    const keep = (reason: unknown): void => void unhandled.push(reason);
    process.on("unhandledRejection", keep);
    let answered = 0;
    store.claim = async () => {
      await sleep(5_000);
      answered++;
      return undefined as never;
    };
    expect(await handle(sent("m-1"), () => {})).toMatchObject(POSTPONED);
    await until(() => answered === 1);
    await new Promise(setImmediate);
    process.off("unhandledRejection", keep);
    expect(unhandled).toEqual([]);
  });

  it("that refuses the key itself uses up an attempt: it would for ever", async () => {
    const { handle, store, types } = world();
    const refusal = new MessagingError("refused", "a constraint of somebody's own");
    store.claim = () => Promise.reject(refusal);
    expect(await handle(sent("m-1"), () => {})).toEqual({ threw: refusal });
    expect(types()).toEqual(["store-failed"]);
  });

  it("is not believed when it throws at once, nor is an observer that does", async () => {
    const { handle, store } = world({
      waitMs: 0,
      onEvent: () => {
        throw new Error("observer");
      },
    });
    store.claim = () => {
      throw new Error("at once");
    };
    expect(await handle(sent("m-1"), () => {})).toMatchObject(POSTPONED);
  });
});

describe("the lease", () => {
  it("is renewed while the handler runs", async () => {
    const { begin, handle, sleep, until, store } = world({ leaseMs: 900, waitMs: 100 });
    const first = begin(sent("m-1"), () => sleep(9_000));
    let tried = 0;
    while (first.end === undefined) {
      const end = await handle(sent("m-1"), () => {
        throw new Error("a second start");
      });
      if (first.end === undefined) expect(end).toMatchObject(POSTPONED);
      tried++;
    }
    await until(() => first.end !== undefined);
    expect(tried).toBeGreaterThan(10);
    expect(store.made("renew")).toBeGreaterThanOrEqual(29);
  });

  it("outlives a store that fails for a while", async () => {
    const { begin, sleep, until, store, types } = world({ leaseMs: 3_000 });
    const first = begin(sent("m-1"), async (_, { signal }) => {
      await sleep(10_000);
      signal.throwIfAborted();
    });
    void sleep(1_900).then(async () => {
      store.mood = "down";
      await sleep(1_800);
      store.mood = "well";
    });
    await until(() => first.end !== undefined);
    expect(first.end).toEqual(DONE);
    expect(types()).toContain("store-failed");
    expect(types()).not.toContain("claim-lost");
  });

  it("lost because the store did not answer, tells the handler in time, and the message comes again", async () => {
    for (const mood of ["down", "silent"] as const) {
      const { begin, sleep, until, store, types, time } = world({ leaseMs: 3_000 });
      let told = 0;
      const first = begin(sent("m-1"), async (_, { signal }) => {
        store.moods = { renew: mood };
        signal.addEventListener("abort", () => {
          told = time.now;
        });
        await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
        await sleep(1);
      });
      await until(() => first.end !== undefined);
      // No attempt is used up: it was not the message's fault.
      expect(first.end).toMatchObject(POSTPONED);
      expect(told).toBeGreaterThan(2_000);
      expect(told).toBeLessThanOrEqual(3_000);
      expect(types().slice(-2)).toEqual(["claim-lost", "postponed"]);
      expect(store.made("complete")).toBe(0);
    }
  });

  it("taken by another, tells the handler, which can then neither complete nor release", async () => {
    for (const throws of [true, false]) {
      const { begin, sleep, until, store, events } = world({ leaseMs: 900, waitMs: 0 });
      let second: ReturnType<typeof begin> | undefined;
      const first = begin(sent("m-1"), async (_, { signal }) => {
        store.moods = { renew: "down" };
        await sleep(901);
        // The store's lease is over: the other gets the key.
        second = begin(sent("m-1"), () => sleep(5_000));
        await sleep(1);
        expect(signal.aborted).toBe(true);
        if (throws) throw signal.reason;
      });
      await until(() => first.end !== undefined);
      expect(first.end).toMatchObject(POSTPONED);
      expect(events.find(({ type }) => type === "claim-lost")).toMatchObject({ error: { code: "timeout" } });
      expect(second?.end).toBeUndefined();
      expect(await store.inner.claim("orders:m-1", 1)).toMatchObject({ status: "busy" });
      store.moods = {};
      await until(() => second?.end !== undefined);
      expect(await store.inner.claim("orders:m-1", 1)).toEqual({ status: "done" });
    }
  });

  it("that was renewed is told lost before it ends by the store", async () => {
    const { begin, sleep, until, store, time } = world({ leaseMs: 3_000 });
    let told = 0;
    const first = begin(sent("m-1"), async (_, { signal }) => {
      signal.addEventListener("abort", () => {
        told = time.now;
      });
      await sleep(2_500);
      // Renewed at 1,000 and 2,000.
      store.moods = { renew: "down" };
      await sleep(5_000);
    });
    await until(() => first.end !== undefined);
    expect(told).toBeGreaterThan(4_000);
    expect(told).toBeLessThanOrEqual(5_000);
  });

  it("is known to be lost by a handler that asks only then", async () => {
    const { begin, sleep, until, store } = world({ leaseMs: 900 });
    store.moods = { renew: "down" };
    const first = begin(sent("m-1"), async (_, delivery) => {
      await sleep(2_000);
      expect(delivery.signal.reason).toMatchObject({ code: "timeout" });
    });
    await until(() => first.end !== undefined);
    expect(first.end).toMatchObject(POSTPONED);
  });

  it("lost without the handler's knowledge excuses no failure of it", async () => {
    const { begin, sleep, until, store, types } = world({ leaseMs: 900 });
    const error = new Error("no");
    store.moods = { renew: "down" };
    const first = begin(sent("m-1"), async () => {
      await sleep(2_000);
      throw error;
    });
    await until(() => first.end !== undefined);
    expect(first.end).toEqual({ threw: error });
    expect(types()).toContain("claim-lost");
  });

  it("is nobody's concern when the handler ends while a renewal is on its way", async () => {
    const { begin, sleep, until, store, events, clock } = world({ leaseMs: 900 });
    const { renew } = store.inner;
    store.inner.renew = async (key, token, leaseMs) => {
      await sleep(200);
      return renew.call(store.inner, key, token, leaseMs);
    };
    const first = begin(sent("m-1"), () => sleep(350));
    await until(() => first.end !== undefined && clock.pending === 0);
    expect(first.end).toEqual(DONE);
    expect(store.made("renew")).toBe(1);
    expect(events).toEqual([]);
  });

  it("found taken at a renewal is lost at once", async () => {
    const { begin, until, store, events } = world({ leaseMs: 900 });
    const { renew } = store.inner;
    store.inner.renew = async () => "lost";
    const first = begin(sent("m-1"), async (_, { signal }) => {
      await until(() => signal.aborted);
    });
    await until(() => first.end !== undefined);
    store.inner.renew = renew;
    expect(first.end).toMatchObject(POSTPONED);
    expect(events[0]).toMatchObject({ type: "claim-lost" });
    expect(store.made("release")).toBe(0);
  });

  it("that ended while the process stood still is renewed if nobody took the key", async () => {
    const { begin, clock, sleep, until, types } = world({ leaseMs: 900, storeTimeoutMs: 100 });
    const schedule = clock.schedule.bind(clock);
    // The timer of the first renewal, after a third of the lease, fires long after the lease.
    let late = 0;
    clock.schedule = (run, ms) => schedule(run, ms === 300 && late++ === 0 ? 5_000 : ms);
    const first = begin(sent("m-1"), async (_, { signal }) => {
      await sleep(8_000);
      signal.throwIfAborted();
    });
    await until(() => first.end !== undefined);
    expect(first.end).toEqual(DONE);
    expect(types()).toEqual([]);
    expect(late).toBeGreaterThan(1);
  });

  it("is not renewed for ever: a handler that takes longer than it may has failed", async () => {
    const { begin, handle, until, store, events } = world({ leaseMs: 900, holdMs: 5_000 });
    const first = begin(sent("m-1"), async (_, { signal }) => {
      await until(() => signal.aborted);
      throw signal.reason;
    });
    await until(() => first.end !== undefined);
    expect(first.end).toMatchObject({ threw: { code: "timeout", message: expect.stringContaining("holdMs") } });
    expect(events).toMatchObject([{ type: "claim-lost" }]);
    // It is free at once.
    expect(await handle(sent("m-1"), () => {})).toEqual(DONE);

    const hung = begin(sent("m-2"), () => new Promise(() => {}));
    let ran = false;
    const other = () => {
      ran = true;
    };
    while (!ran) await handle(sent("m-2"), other);
    expect(hung.end).toBeUndefined();
    expect(store.made("renew")).toBeLessThan(60);
  });
});

describe("a handler whose delivery is aborted", () => {
  const reason = new MessagingError("timeout", "the deadline");

  it("and that was told so, is not taken for done when it returns", async () => {
    const { begin, handle, until, store } = world();
    const message = sent("m-1");
    const first = begin(message, async (_, { signal }) => {
      await until(() => signal.aborted);
    });
    await until(() => store.made("claim") === 1);
    message.abort(reason);
    await until(() => first.end !== undefined);
    expect(first.end).toEqual({ threw: reason });
    let runs = 0;
    await handle(sent("m-1"), () => void runs++);
    expect(runs).toBe(1);
  });

  it("and that never asked, has done its work when it returns", async () => {
    const { begin, handle, until, sleep, store } = world();
    const message = sent("m-1");
    const first = begin(message, () => sleep(5_000));
    await until(() => store.made("claim") === 1);
    message.abort(reason);
    await until(() => first.end !== undefined);
    expect(first.end).toEqual(DONE);
    expect(
      await handle(sent("m-1"), () => {
        throw new Error("a second start");
      }),
    ).toEqual(DONE);
  });
});

describe("a completion", () => {
  it("is tried again until the store takes it", async () => {
    for (const mood of ["down", "answer-lost"] as const) {
      const { begin, handle, until, sleep, store, types } = world();
      store.moods = { complete: mood };
      const first = begin(sent("m-1"), () => {});
      void sleep(5_000).then(() => {
        store.moods = {};
      });
      await until(() => first.end !== undefined);
      expect(first.end).toEqual(DONE);
      expect(store.made("complete")).toBeGreaterThan(2);
      expect(types()).not.toContain("unrecorded");
      expect(await handle(sent("m-1"), () => Promise.reject(new Error("a second start")))).toEqual(DONE);
    }
  });

  it("that cannot be recorded until the lease is over, is told, and the message acknowledged", async () => {
    const { handle, store, types, time } = world({ leaseMs: 3_000 });
    store.moods = { complete: "down" };
    expect(await handle(sent("m-1"), () => {})).toEqual(DONE);
    expect(types().at(-1)).toBe("unrecorded");
    expect(time.now).toBeLessThanOrEqual(4_000);
    store.moods = {};
    let runs = 0;
    await handle(sent("m-1"), () => void runs++);
    expect(runs).toBe(1);
  });

  it("of a claim that was cleaned away is recorded all the same", async () => {
    const { handle, store, sleep } = world({ leaseMs: 900 });
    await handle(sent("m-1"), async () => {
      store.moods = { renew: "down" };
      await sleep(1_000);
      expect(await store.inner.clean(10)).toBe(1);
    });
    expect(await store.inner.claim("orders:m-1", 1)).toEqual({ status: "done" });
  });

  it("of a claim that another holds by now changes nothing of theirs", async () => {
    const { begin, handle, store, sleep, types, until } = world({ leaseMs: 900, waitMs: 0 });
    let second: ReturnType<typeof begin> | undefined;
    const first = await handle(sent("m-1"), async () => {
      store.moods = { renew: "down" };
      await sleep(1_000);
      second = begin(sent("m-1"), () => sleep(300).then(() => Promise.reject(new Error("no"))));
      await sleep(10);
    });
    expect(first).toEqual(DONE);
    expect(types()).toContain("unrecorded");
    await until(() => second?.end !== undefined);
    expect(await store.inner.claim("orders:m-1", 1)).toMatchObject({ status: "claimed" });
  });
});

it("shows the handler the delivery as it came", async () => {
  const { handle } = world();
  const headers = { a: "1" };
  const native = { of: "the client" };
  const message = sent("m-1", { key: "k", routingKey: "r", headers, attempt: 3, subscription: "billing", native });
  let seen: Delivery | undefined;
  await handle(message, (_, delivery) => {
    seen = delivery;
  });
  for (const name of Object.keys(message.delivery) as (keyof Delivery)[]) {
    if (name !== "signal") expect(seen?.[name], name).toBe(message.delivery[name]);
  }
});
