import { describe, expect, it, test } from "vitest";
import { systemClock } from "../../../core/clock.ts";
import { deadLetter, type HandlerResult, postpone, retry } from "../../../core/delivery.ts";
import { MessagingError } from "../../../core/errors.ts";
import {
  type InboxEnd,
  type InboxEvent,
  type InboxHandleOptions,
  type InboxMessage,
  type InboxOptions,
  type InboxStore,
  type TransactionalHandler,
  transactional,
} from "../../../patterns/outbox/index.ts";
import { sent } from "../idempotency/world.ts";

const DAY_MS = 24 * 60 * 60 * 1_000;
const NOW = 400 * DAY_MS;

/** An inbox in memory that fails as it is told to. */
class FakeInbox implements InboxStore<string> {
  readonly name = "fake";
  readonly known = new Set<string>();
  readonly ends: InboxEnd[] = [];
  readonly cleanings: (readonly [consumer: string, olderThanMs: number, limit: number])[] = [];
  /** What the next call fails with, before its work or after it. */
  before: InboxEnd | Error | undefined = undefined;
  after: Error | undefined = undefined;
  removes = 0;

  async handle(
    { consumer, id }: InboxMessage,
    work: (transaction: string) => Promise<boolean>,
    { signal }: InboxHandleOptions,
  ): Promise<InboxEnd> {
    signal.throwIfAborted();
    if (this.before instanceof Error) throw this.before;
    if (this.before !== undefined) return this.before;
    if (this.known.has(`${consumer} ${id}`)) return this.#end("duplicate");
    const wanted = await work("the transaction");
    signal.throwIfAborted();
    if (this.after !== undefined) throw this.after;
    if (!wanted) return this.#end("rolled-back");
    this.known.add(`${consumer} ${id}`);
    return this.#end("committed");
  }

  async clean(...given: readonly [consumer: string, olderThanMs: number, limit: number]): Promise<number> {
    this.cleanings.push(given);
    return this.removes;
  }

  #end(end: InboxEnd): InboxEnd {
    this.ends.push(end);
    return end;
  }
}

function world(options: InboxOptions = {}) {
  const inbox = new FakeInbox();
  const events: InboxEvent[] = [];
  const clock = { ...systemClock(), now: () => NOW };
  const settings = { clock, clean: false as const, onEvent: (event: InboxEvent) => events.push(event), ...options };
  const state: { result: (transaction: string) => HandlerResult | Promise<HandlerResult>; runs: number } = {
    result: () => undefined,
    runs: 0,
  };
  const handler: TransactionalHandler<unknown, string> = (_, __, transaction) => {
    state.runs++;
    return state.result(transaction);
  };
  const handle = transactional(inbox, handler, settings);
  const at = (ageMs = 0) => ({ firstPublishedAt: new Date(NOW - ageMs) });
  return { inbox, events, state, handle: async (message = sent("m-1", at())) => handle({}, message.delivery), at };
}

describe("transactional", () => {
  it("hands the transaction over, commits, and knows the message from then on", async () => {
    const { inbox, events, state, handle } = world();
    const given: string[] = [];
    state.result = async (transaction) => void given.push(transaction);
    expect(await handle()).toBeUndefined();
    expect(await handle()).toBeUndefined();
    expect(given).toEqual(["the transaction"]);
    expect(inbox.ends).toEqual(["committed", "duplicate"]);
    expect(events).toEqual([{ type: "duplicate", destination: "orders", subscription: undefined, id: "m-1" }]);
  });

  it("tells consumers apart, and hashes ids that a store need not carry", async () => {
    const { inbox, handle, at } = world();
    await handle(sent("m-1", at()));
    await handle(sent("m-1", { ...at(), subscription: "billing" }));
    await handle(sent("é".repeat(3), at()));
    await handle(sent("l".repeat(257), at()));
    const [first, second, ...hashed] = [...inbox.known];
    expect([first, second]).toEqual(["orders m-1", "orders/billing m-1"]);
    for (const one of hashed) expect(one).toMatch(/^orders sha256=[0-9a-f]{64}$/);
    expect(new Set(hashed).size).toBe(2);
  });

  it.for([retry(), retry({ afterMs: 5 }), postpone(), deadLetter("no")])("rolls back for %o", async (outcome) => {
    const { inbox, state, handle } = world();
    state.result = () => outcome;
    expect(await handle()).toBe(outcome);
    expect(inbox.ends).toEqual(["rolled-back"]);
  });

  it.for([new Error("no"), undefined, new MessagingError("unreachable", "another service")])(
    "lets go on what the handler throws: %o",
    async (thrown) => {
      const { state, events, handle } = world();
      state.result = () => Promise.reject(thrown);
      expect(
        await handle().then(
          () => "nothing",
          (error: unknown) => error,
        ),
      ).toBe(thrown);
      expect(events).toEqual([]);
    },
  );

  it("postpones a message that another holds, or while the store is down, without an attempt", async () => {
    const { inbox, events, state, handle } = world({ postponeMs: 1_000 });
    for (const [before, because] of [
      ["busy", "busy"],
      [new MessagingError("unreachable", "down"), "store"],
      [new MessagingError("unauthorized", "no right"), "store"],
      [new Error("the store's own"), "store"],
    ] as const) {
      inbox.before = before;
      const end = (await handle()) as ReturnType<typeof postpone>;
      expect(end).toEqual(postpone({ afterMs: end.afterMs }));
      expect(end.afterMs).toBeGreaterThanOrEqual(500);
      expect(end.afterMs).toBeLessThanOrEqual(1_000);
      expect(events.at(-1)).toMatchObject({ type: "postponed", because });
    }
    expect(state.runs).toBe(0);
    expect(events.filter(({ type }) => type === "store-failed")).toHaveLength(3);
  });

  it("postpones a message while whose handler the database said that it goes down", async () => {
    const { inbox, state, handle, events } = world();
    inbox.after = new MessagingError("unreachable", "it goes down");
    const end = (await handle()) as ReturnType<typeof postpone>;
    expect(end).toEqual(postpone({ afterMs: end.afterMs }));
    expect(state.runs).toBe(1);
    expect(events.map(({ type }) => type)).toEqual(["store-failed", "postponed"]);
  });

  it("looks whether a commit without an answer was kept", async () => {
    const { inbox, state, handle, events } = world();
    inbox.after = new MessagingError("unconfirmed", "no answer");
    state.result = () => void inbox.known.add("orders m-1");
    expect(await handle()).toBeUndefined();
    expect(state.runs).toBe(1);
    expect(events.map(({ type }) => type)).toEqual(["store-failed"]);
  });

  it.for<readonly [what: string, before: InboxEnd | Error | undefined]>([
    ["was not kept", undefined],
    ["is held by another transaction", "busy"],
    ["cannot be looked for", new MessagingError("unreachable", "down")],
  ])("counts a commit without an answer that %s", async ([, before]) => {
    const { inbox, state, handle } = world();
    const lost = new MessagingError("unconfirmed", "no answer");
    inbox.after = lost;
    state.result = () => {
      inbox.before = before;
    };
    await expect(handle()).rejects.toBe(lost);
    expect(state.runs).toBe(1);
  });

  it("counts what nobody can say of that the handler has no part in it", async () => {
    const { inbox, handle } = world();
    inbox.after = new Error("of the store's client");
    await expect(handle()).rejects.toBe(inbox.after);
  });

  it("counts it against the message if the database refuses its row", async () => {
    const { inbox, state, handle } = world();
    inbox.before = new MessagingError("refused", "a constraint of somebody's own");
    await expect(handle()).rejects.toBe(inbox.before);
    expect(state.runs).toBe(0);
  });

  it("counts it against the message if the database refused its commit", async () => {
    const { inbox, handle } = world();
    inbox.after = new MessagingError("refused", "a deferred constraint");
    await expect(handle()).rejects.toBe(inbox.after);
  });

  it("dead-letters a message whose handler ended the transaction", async () => {
    const { inbox, handle, events } = world();
    inbox.after = new MessagingError("conflict", "it was ended");
    expect(await handle()).toEqual(deadLetter("it was ended; look at what it wrote"));
    expect(events.at(-1)).toMatchObject({ type: "refused", because: "transaction" });
  });

  it("dead-letters a message whose earlier handler ended the transaction and did not come to its end", async () => {
    const { inbox, state, handle, events } = world();
    inbox.before = "ended-early";
    expect(await handle()).toMatchObject({ reason: expect.stringContaining("an earlier attempt ended") });
    expect(state.runs).toBe(0);
    expect(events.at(-1)).toMatchObject({ type: "refused", because: "transaction" });
  });

  it("ends with the reason of a signal that was aborted", async () => {
    const { state, handle, events, at } = world();
    const message = sent("m-1", at());
    const reason = new MessagingError("timeout", "too long");
    state.result = () => message.abort(reason);
    await expect(handle(message)).rejects.toBe(reason);
    await expect(handle(message)).rejects.toBe(reason);
    expect(state.runs).toBe(1);
    expect(events).toEqual([]);
  });
});

describe("a message that is older than the inbox remembers", () => {
  const retentionMs = 7 * DAY_MS;

  it("is dead-lettered, with a reason that says what to do", async () => {
    const { inbox, state, events, handle, at } = world({ retentionMs });
    expect(await handle(sent("m-1", at(retentionMs)))).toEqual(
      deadLetter(
        "first published 7 days ago, and the inbox remembers 7 days (retentionMs): it may be a duplicate; " +
          'raise retentionMs above the age of replays, handle it with olderThanRetention: "handle", or send it again',
      ),
    );
    expect(state.runs).toBe(0);
    expect(inbox.ends).toEqual(["rolled-back"]);
    expect(events).toMatchObject([{ type: "refused", because: "age" }]);
    expect(await handle(sent("m-1", at(retentionMs - 1)))).toBeUndefined();
    expect(state.runs).toBe(1);
  });

  it("is a duplicate like any other while it is remembered", async () => {
    const { state, handle, at } = world({ retentionMs });
    await handle(sent("m-1", at(0)));
    expect(await handle(sent("m-1", at(2 * retentionMs)))).toBeUndefined();
    expect(state.runs).toBe(1);
  });

  it("is handled where that is allowed", async () => {
    const { state, handle, at } = world({ retentionMs, olderThanRetention: "handle" });
    expect(await handle(sent("m-1", at(2 * retentionMs)))).toBeUndefined();
    expect(state.runs).toBe(1);
  });
});

describe("cleaning", () => {
  it("is bounded, keeps rows longer than their retention, and goes on at once while there is more", async () => {
    const { inbox, handle, at } = world({ retentionMs: DAY_MS, clean: { everyMs: 1, limit: 3 } });
    inbox.removes = 3;
    let n = 0;
    const handleOne = () => handle(sent(`m-${n++}`, at())).then(() => inbox.cleanings.length);
    await expect.poll(handleOne).toBeGreaterThan(2);
    for (const [consumer, olderThanMs, limit] of inbox.cleanings) {
      expect([consumer, limit]).toEqual(["orders", 3]);
      expect(olderThanMs).toBeGreaterThan(DAY_MS);
    }
  });

  it("disturbs no message when it fails", async () => {
    const { inbox, handle, events, at } = world({ clean: { everyMs: 1 } });
    inbox.clean = () => Promise.reject(new Error("no"));
    let n = 0;
    const handleOne = () => handle(sent(`m-${n++}`, at())).then(() => events.length);
    await expect.poll(handleOne).toBeGreaterThan(1);
    expect(events[0]).toMatchObject({ type: "store-failed", call: "clean", error: { code: "unreachable" } });
  });
});

test.for<readonly [options: InboxOptions, message: string]>([
  [{ retention: 1 } as InboxOptions, 'no option "retention"'],
  [{ retentionMs: 0 }, "retentionMs"],
  [{ olderThanRetention: "pass" as "handle" }, "olderThanRetention"],
  [{ waitMs: -1 }, "waitMs"],
  [{ postponeMs: 0 }, "postponeMs"],
  [{ clean: { every: 1 } as object }, 'no option "every"'],
  [{ clean: { limit: 0 } }, "limit"],
  [{ onEvent: "no" as never }, "onEvent"],
])("refuses %o", ([options, message]) => {
  expect(() => world(options)).toThrow(message);
});

test("refuses what is no inbox, and what is no handler", () => {
  const refused = "transactional(inbox, handler) takes an inbox";
  expect(() => transactional({} as never, () => {})).toThrow(refused);
  expect(() => transactional(new FakeInbox(), undefined as never)).toThrow(refused);
});
