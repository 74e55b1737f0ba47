import { getEventListeners } from "node:events";
import { describe, expect, it } from "vitest";
import { deadLetter, type Handler, postpone, retry } from "../../../core/delivery.ts";
import { MessagingError } from "../../../core/errors.ts";
import { type IdempotentOptions, idempotent, LONGEST_KEY } from "../../../patterns/idempotency/index.ts";
import { sent, world } from "./world.ts";

const DONE = { returned: undefined };

/** Counts its runs. */
function counting(run: (n: number) => unknown = () => undefined) {
  const handler = async () => (await run(++handler.runs)) as undefined;
  handler.runs = 0;
  return handler;
}

describe("a message that was done", () => {
  it("is acknowledged without the handler", async () => {
    const { handle, events, clock } = world();
    const handler = counting();
    for (let time = 0; time < 3; time++) expect(await handle(sent("m-1"), handler)).toEqual(DONE);
    expect(handler.runs).toBe(1);
    const place = { destination: "orders", subscription: undefined, id: "m-1" };
    expect(events).toEqual([
      { type: "duplicate", ...place },
      { type: "duplicate", ...place },
    ]);
    expect(clock.pending).toBe(0);
  });

  it("is another for another queue, topic or subscription", async () => {
    const { handle, store } = world();
    const handler = counting();
    const places = [
      { destination: "orders" },
      { destination: "mails" },
      { destination: "orders", subscription: "billing" },
      { destination: "orders", subscription: "stock" },
    ];
    for (let time = 0; time < 2; time++) for (const place of places) await handle(sent("m-1", place), handler);
    expect(handler.runs).toBe(places.length);
    expect([...store.keys]).toEqual(["orders:m-1", "mails:m-1", "orders/billing:m-1", "orders/stock:m-1"]);
  });

  it("runs again when its retention is over", async () => {
    const { handle, sleep, until } = world({ retentionMs: 1_000 });
    const handler = counting();
    await handle(sent("m-1"), handler);
    let over = false;
    void sleep(1_000).then(() => {
      over = true;
    });
    await until(() => over);
    await handle(sent("m-1"), handler);
    expect(handler.runs).toBe(2);
  });
});

describe("the key", () => {
  it("is the id, or what a function makes of the body", async () => {
    const { handle } = world({ key: (body, { key }) => `${(body as { order: string }).order}/${key}` });
    const handler = counting();
    await handle(sent("m-1", { key: "k" }), handler, { order: "o-1" });
    await handle(sent("m-2", { key: "k" }), handler, { order: "o-1" });
    expect(handler.runs).toBe(1);
    await handle(sent("m-3", { key: "l" }), handler, { order: "o-1" });
    await handle(sent("m-4", { key: "k" }), handler, { order: "o-2" });
    expect(handler.runs).toBe(3);
  });

  it("is made such that any store can carry it, and stays apart", async () => {
    const ids = [
      "a",
      "A",
      "a ",
      "é",
      "e\u0301",
      "\u0000",
      "\ud800",
      "\udc00",
      "\ufffd",
      "line\nbreak",
      "x".repeat(257),
    ];
    ids.push(`${"x".repeat(256)}y`, "x".repeat(100_000), "sha256=a", "sha256=b", "o/b:c");
    const { handle, store } = world();
    const handler = counting();
    const place = { destination: "d".repeat(100), subscription: "s".repeat(100) };
    for (let time = 0; time < 2; time++) for (const id of ids) await handle(sent(id, place), handler);
    expect(handler.runs).toBe(ids.length);
    expect(store.keys.size).toBe(ids.length);
    for (const key of store.keys) expect(key).toMatch(/^[\x20-\x7e]+$/);
    expect(Math.max(...[...store.keys].map((key) => key.length))).toBeLessThanOrEqual(LONGEST_KEY);
  });

  it("is apart from a key that looks like what another was made to", async () => {
    const { handle, store } = world();
    const handler = counting();
    await handle(sent("é"), handler);
    const [made = ""] = store.keys;
    await handle(sent(made.slice("orders:".length)), handler);
    expect(handler.runs).toBe(2);
  });

  it("has to be a text", async () => {
    for (const key of ["", 7, undefined]) {
      const { handle, store } = world({ key: () => key as string });
      const handler = counting();
      expect(await handle(sent("m-1"), handler)).toMatchObject({ threw: { code: "invalid" } });
      expect([handler.runs, store.calls]).toEqual([0, []]);
    }
  });
});

describe("a handler that does not succeed", () => {
  it("releases the claim when it throws, and its error is passed on", async () => {
    const { handle, store } = world();
    const error = new Error("no");
    const handler = counting((n) => (n < 3 ? Promise.reject(error) : undefined));
    expect(await handle(sent("m-1"), handler)).toEqual({ threw: error });
    const atOnce = () => {
      throw error;
    };
    expect(await handle(sent("m-1"), atOnce)).toEqual({ threw: error });
    expect(await handle(sent("m-1"), handler)).toEqual({ threw: error });
    expect(await handle(sent("m-1"), handler)).toEqual(DONE);
    await handle(sent("m-1"), handler);
    expect(handler.runs).toBe(3);
    expect(store.made("release")).toBe(3);
  });

  it.for([retry({ afterMs: 5 }), postpone({ afterMs: 5 }), deadLetter("no")])("releases it for %o", async (outcome) => {
    const { handle } = world();
    const handler = counting((n) => (n === 1 ? outcome : undefined));
    const first = await handle(sent("m-1"), handler);
    expect("returned" in first && first.returned).toBe(outcome);
    // The next attempt, or a replay of the dead letter; then a duplicate of it.
    expect(await handle(sent("m-1"), handler)).toEqual(DONE);
    expect(await handle(sent("m-1"), handler)).toEqual(DONE);
    expect(handler.runs).toBe(2);
  });

  it("leaves a release that fails to the lease", async () => {
    const { handle, time, store, types } = world({ leaseMs: 3_000, waitMs: 10_000 });
    store.moods = { release: "down" };
    const error = new Error("no");
    expect(
      await handle(
        sent("m-1"),
        counting(() => Promise.reject(error)),
      ),
    ).toEqual({ threw: error });
    expect(types()).toEqual(["store-failed"]);
    const handler = counting();
    expect(await handle(sent("m-1"), handler)).toEqual(DONE);
    expect(handler.runs).toBe(1);
    expect(time.now).toBeGreaterThanOrEqual(3_000);
  });
});

describe("a duplicate of what is in flight", () => {
  it("waits, and is acknowledged when the first is done", async () => {
    const { begin, handle, sleep, types } = world();
    const handler = counting(() => sleep(2_000));
    const first = begin(sent("m-1"), handler);
    expect(await handle(sent("m-1"), handler)).toEqual(DONE);
    expect(first.end).toEqual(DONE);
    expect(handler.runs).toBe(1);
    expect(types()).toEqual(["duplicate"]);
  });

  it("waits, and runs when the first has failed", async () => {
    const { begin, handle, sleep, until } = world();
    const handler = counting(async (n) => {
      await sleep(2_000);
      if (n === 1) throw new Error("no");
    });
    const first = begin(sent("m-1"), handler);
    await until(() => handler.runs === 1);
    expect(await handle(sent("m-1"), handler)).toEqual(DONE);
    expect(first.end).toMatchObject({ threw: { message: "no" } });
    expect(handler.runs).toBe(2);
  });

  it("waits no longer than the lease of one that died", async () => {
    const { handle, store, time } = world();
    await store.inner.claim("orders:m-1", 3_000);
    const handler = counting();
    expect(await handle(sent("m-1"), handler)).toEqual(DONE);
    expect(handler.runs).toBe(1);
    expect(time.now).toBeGreaterThanOrEqual(3_000);
    expect(time.now).toBeLessThan(3_002);
  });

  it("is postponed when it has waited long enough, without end and without an attempt", async () => {
    const { begin, handle, sleep, events, until, time } = world({ leaseMs: 1_000, waitMs: 500, postponeMs: 800 });
    const handler = counting(() => sleep(20_000));
    const first = begin(sent("m-1"), handler);
    for (let time = 0; time < 3; time++) {
      const end = await handle(sent("m-1"), handler);
      if (!("returned" in end) || end.returned === undefined) throw new Error("it was not postponed");
      const { afterMs } = end.returned as ReturnType<typeof postpone>;
      expect(end.returned).toEqual(postpone({ afterMs }));
      expect(afterMs).toBeGreaterThanOrEqual(400);
      expect(afterMs).toBeLessThanOrEqual(800);
      expect(events.at(-1)).toMatchObject({ type: "postponed", because: "busy", afterMs });
    }
    expect(time.now).toBeLessThan(5_000);
    await until(() => first.end !== undefined);
    expect(await handle(sent("m-1"), handler)).toEqual(DONE);
    expect(handler.runs).toBe(1);
  });

  it("leaves nothing on the signal it waited with", async () => {
    const { handle, store } = world();
    const message = sent("m-1");
    await store.inner.claim("orders:m-1", 3_000);
    await handle(message, counting());
    expect(getEventListeners(message.delivery.signal, "abort")).toEqual([]);
  });

  it("is not held back from a stop", async () => {
    const { begin, handle, sleep, until } = world({ waitMs: 60_000 });
    const reason = new MessagingError("closed", "stopped");
    begin(sent("m-1"), () => sleep(30_000));
    const second = sent("m-1");
    const waiting = begin(second, () => {});
    let passed = false;
    void sleep(100).then(() => {
      passed = true;
    });
    await until(() => passed);
    second.abort(reason);
    await until(() => waiting.end !== undefined);
    expect(waiting.end).toEqual({ threw: reason });
    expect(await handle(sent("m-2"), () => {})).toEqual(DONE);
  });
});

describe("given twice", () => {
  it("does not wait for itself", async () => {
    const { store, clock } = world();
    const twice = [1, 2].map(() => idempotent(store, { clock }));
    const handler = counting();
    const wrapped = twice.reduceRight((next, use) => use(next), handler as Parameters<(typeof twice)[0]>[0]);
    await wrapped({}, sent("m-1").delivery);
    await wrapped({}, sent("m-1").delivery);
    expect(handler.runs).toBe(1);
    expect(store.made("claim")).toBe(2);
  });

  it("claims both keys, if there are two", async () => {
    const { store, clock } = world();
    const handler = counting();
    const byBody = idempotent<string>(store, { clock, key: (body) => body })(handler as Handler<unknown>);
    const wrapped = idempotent(store, { clock })(byBody as Handler<unknown>);
    await wrapped("o-1", sent("m-1").delivery);
    await wrapped("o-1", sent("m-2").delivery);
    expect(handler.runs).toBe(1);
    expect([...store.keys]).toEqual(["orders:m-1", "orders:o-1", "orders:m-2"]);
  });
});

describe("cleaning", () => {
  it("is done a little at a time, between completions, and goes on at once while there is more", async () => {
    const { handle, store, sleep } = world({ retentionMs: 10, clean: { everyMs: 1_000, limit: 3 } });
    for (let n = 0; n < 10; n++) await handle(sent(`m-${n}`), () => {});
    const first = store.made("clean");
    await handle(sent("later"), () => sleep(2_000));
    await handle(sent("more"), () => {});
    await handle(sent("and-more"), () => {});
    await handle(sent("not-again"), () => {});
    await handle(sent("not-yet"), () => {});
    expect(store.made("clean") - first).toBeGreaterThanOrEqual(3);
    expect(store.made("clean") - first).toBeLessThanOrEqual(4);
    expect(await store.inner.clean(100)).toBeLessThan(4);
  });

  it("is one cleaning at a time, however slow", async () => {
    const { begin, handle, store, sleep, until } = world({ clean: { everyMs: 1 } });
    store.moods = { clean: "silent" };
    await handle(sent("first"), () => sleep(2));
    expect(store.made("clean")).toBe(1);
    const after = ["m-1", "m-2", "m-3"].map((id) => begin(sent(id), () => sleep(10)));
    await until(() => after.every(({ end }) => end !== undefined));
    expect(store.made("clean")).toBe(1);
  });

  it("is left to others", async () => {
    const { handle, store, sleep } = world({ clean: false });
    for (const id of ["m-1", "m-2"]) await handle(sent(id), () => sleep(100_000));
    expect(store.made("clean")).toBe(0);
  });
});

it.for<readonly [options: IdempotentOptions<unknown>, message: string]>([
  [{ lease: 1 } as IdempotentOptions<unknown>, 'no option "lease"'],
  [{ leaseMs: 2 }, "leaseMs"],
  [{ holdMs: 0 }, "holdMs"],
  [{ retentionMs: Number.NaN }, "retentionMs"],
  [{ waitMs: -1 }, "waitMs"],
  [{ postponeMs: 0 }, "postponeMs"],
  [{ leaseMs: 9_000, storeTimeoutMs: 3_001 }, "at most a third of leaseMs"],
  [{ clean: { every: 1 } as object }, 'no option "every"'],
  [{ clean: { limit: 0 } }, "limit"],
  [{ key: "id" as never }, "idempotent { key } takes a function"],
])("refuses %o", ([options, message]) => {
  expect(() => world(options)).toThrow(message);
});

it.for([undefined, {}, { store: {} }])("refuses %o as its store", (store) => {
  expect(() => idempotent(store as never)).toThrow("idempotent(store, options) takes a store");
});
