import { type ArchivedEntry, deadLetters } from "anybroker/dead-letters";
import { expect, test } from "vitest";
import { z } from "zod";
import { memory } from "../../../adapters/memory/index.ts";
import { delegate } from "../../../conformance/decorators/delegate.ts";
import type { Adapter, IncomingMessage } from "../../../core/adapter.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { type Queue, queue } from "../../../core/destination.ts";
import { MessagingError } from "../../../core/errors.ts";
import { HEADER } from "../../../core/system-headers.ts";
import { type Burial, Graveyard, type Order, until } from "./graveyard.ts";

type Originals = ReadonlyMap<string, readonly IncomingMessage[] | MessagingError>;

/** A broker some of whose dead letters only refer to messages, by where these are stored. */
function referring(originals: Originals): Adapter {
  return delegate(memory(), {
    async resolve(_, { headers }) {
      const found = originals.get(headers[HEADER.deadReference] ?? "");
      if (found === undefined) throw new MessagingError("not-found", "what a dead letter refers to is gone");
      if (found instanceof MessagingError) throw found;
      return found;
    },
  });
}

function original(id: string, body: unknown, key?: string): IncomingMessage {
  return {
    token: undefined,
    id,
    key,
    routingKey: undefined,
    headers: Object.assign(Object.create(null), { tenant: "acme" }),
    body: Buffer.from(JSON.stringify(body)),
    contentType: "application/json",
    redeliveries: 0,
    native: undefined,
  };
}

/** The dead letter that stands for what is stored at a place. */
function reference(id: string, place: string, given: Partial<Burial> = {}): Burial {
  const headers = { [HEADER.deadReference]: place, tenant: "acme" };
  return { id, headers, body: JSON.stringify({ refersTo: { place } }), ...given };
}

async function opened(originals: Originals, orders?: Queue<Order>) {
  const adapter = referring(originals);
  const yard = await Graveyard.open({ name: "memory", adapter: () => adapter }, orders === undefined ? {} : { orders });
  const handled: { id: string; body: unknown; headers: unknown }[] = [];
  const consume = (): unknown =>
    yard.broker.consume(yard.orders, (body, { id, headers }) => void handled.push({ id, body, headers }));
  return { yard, handled, consume };
}

test("a reference shows the message that it stands for, and sends that one back", async () => {
  const orders = queue("orders", { schema: z.object({ n: z.number() }) });
  const { yard, handled, consume } = await opened(new Map([["log/0/7", [original("m", { n: 7 }, "k")]]]), orders);
  await yard.bury([reference("m", "log/0/7", { key: "k", error: "too large" })]);
  const [entry] = (await yard.dead.list()).entries;
  expect(entry).toMatchObject({
    messageId: "m",
    key: "k",
    body: '{"n":7}',
    size: 7,
    valid: true,
    reference: "log/0/7",
    cut: null,
    error: "too large",
    headers: { tenant: "acme" },
  });
  expect((await yard.dead.groups()).groups).toMatchObject([{ count: 1, example: entry }]);
  const planned = await yard.dead.replay("all");
  expect(planned.plan).toMatchObject({ count: 1, refused: [] });
  expect(await planned.run()).toMatchObject({ done: 1, failed: 0 });
  consume();
  await until("its handling", () => handled.length === 1);
  expect(handled).toMatchObject([{ id: "m", body: { n: 7 }, headers: { tenant: "acme" } }]);
  const [copy] = yard.sentBack();
  expect(copy?.headers).toMatchObject({ [HEADER.replays]: "1", [HEADER.replayRun]: planned.plan.run });
  expect(copy?.headers[HEADER.deadReference]).toBeUndefined();
  expect(await yard.dead.count()).toMatchObject({ count: 0 });
  await yard.stop();
});

test("an edit is shown the failure and the message, and makes the copy of both", async () => {
  const { yard } = await opened(new Map([["log/0/7", [original("m", { n: -7 }, "k")]]]));
  await yard.bury([reference("m", "log/0/7", { error: "n is negative" })]);
  const seen: unknown[] = [];
  const edited = await yard.dead.edit("m", (body, { error, reference: place, messageId, body: shown }) => {
    seen.push({ body, error, place, messageId, shown });
    return { n: 7 };
  });
  expect(seen).toEqual([
    { body: { n: -7 }, error: "n is negative", place: "log/0/7", messageId: "m", shown: '{"n":-7}' },
  ]);
  expect(edited).toEqual({ id: expect.any(String), editedFrom: "m" });
  expect(yard.sentBack()).toMatchObject([{ id: edited.id, key: "k", headers: { [HEADER.editedFrom]: "m" } }]);
  expect(JSON.parse(Buffer.from(yard.sentBack()[0]?.body ?? "").toString())).toEqual({ n: 7 });
  expect(await yard.dead.count()).toMatchObject({ count: 0 });
  await yard.stop();
});

test("a reference to a batch sends all its messages back, in order, and can be edited by nobody", async () => {
  const ids = ["a", "b", "c"];
  const batch = ids.map((id, n) => original(id, { n }));
  const { yard } = await opened(new Map([["log/0/7-9", batch]]));
  await yard.bury([reference("log-0-7", "log/0/7-9", { reason: "invalid" })]);
  const [entry] = (await yard.dead.list()).entries;
  // It shows itself: there is no one message to show.
  expect(entry).toMatchObject({ valid: false, reference: "log/0/7-9", body: '{"refersTo":{"place":"log/0/7-9"}}' });
  await expect(yard.dead.edit("log-0-7", () => ({ n: 1 }))).rejects.toMatchObject({ code: "invalid" });
  expect(yard.sentBack()).toEqual([]);
  const planned = await yard.dead.replay("all");
  expect(await planned.run()).toMatchObject({ done: 1 });
  expect(yard.sentBack().map(({ id }) => id)).toEqual(ids);
  expect(await yard.dead.count()).toMatchObject({ count: 0 });
  await yard.stop();
});

test("a run with a ramp sees that a batch came back", async () => {
  const originals = new Map<string, readonly IncomingMessage[]>();
  const place = (n: number): string => `log/0/${n}`;
  for (let n = 0; n < 40; n += 10) originals.set(place(n), [original(`m-${n}`, { n }), original(`m-${n + 1}`, { n })]);
  const { yard } = await opened(originals);
  await yard.bury([...originals.keys()].map((at, n) => reference(`batch-${n}`, at, { failedAt: n + 1 })));
  yard.broker.consume(
    yard.orders,
    () => {
      throw new Error("still broken");
    },
    { retry: { attempts: 1 } },
  );
  const { run } = await yard.dead.replay("all", { ramp: { first: 1, observeMs: 60_000 } });
  const result = await run();
  expect(result.stopped).toBe("failed-again");
  expect(result.done).toBe(1);
  await yard.stop();
});

test("what is gone or cannot be read is left alone, named in the plan, and stops nothing", async () => {
  const unreadable = new MessagingError("unsupported", "a compression that nobody knows");
  const originals = new Map<string, readonly IncomingMessage[] | MessagingError>([
    ["log/0/1", unreadable],
    ["log/0/2", [original("c", { n: 2 })]],
    ["log/0/3", [original("d", { n: 3 })]],
  ]);
  const { yard } = await opened(originals);
  await yard.bury([
    reference("a", "log/0/0", { failedAt: 1 }),
    reference("b", "log/0/1", { failedAt: 2 }),
    reference("c", "log/0/2", { failedAt: 3 }),
    reference("d", "log/0/3", { failedAt: 4 }),
  ]);
  const { entries } = await yard.dead.list();
  expect(entries.map(({ messageId, valid }) => [messageId, valid])).toEqual([
    ["a", false],
    ["b", false],
    ["c", "unknown"],
    ["d", "unknown"],
  ]);
  const planned = await yard.dead.replay("all");
  expect(planned.plan.count).toBe(2);
  expect(planned.plan.refused.map(({ why, count }) => [why, count])).toEqual([
    [expect.stringContaining("is gone"), 1],
    [expect.stringContaining("unsupported"), 1],
  ]);
  // One more is deleted between the plan and the run.
  originals.delete("log/0/2");
  const result = await planned.run();
  expect(result).toMatchObject({ done: 1, failed: 1, stopped: undefined });
  expect(result.failures).toMatchObject([{ messageId: "c", error: { code: "invalid" } }]);
  expect(yard.sentBack().map(({ id }) => id)).toEqual(["d"]);
  expect(await yard.dead.count()).toMatchObject({ count: 3 });
  await yard.stop();
});

test("discarded, the message itself is archived; what may be read by another try is not discarded before", async () => {
  const originals = new Map<string, readonly IncomingMessage[] | MessagingError>([
    ["log/0/1", new MessagingError("unreachable", "the broker is away")],
  ]);
  const { yard } = await opened(originals);
  await yard.bury([reference("a", "log/0/0", { failedAt: 1 }), reference("b", "log/0/1", { failedAt: 2 })]);
  const archived: ArchivedEntry[] = [];
  const archive = { append: async (some: readonly ArchivedEntry[]) => void archived.push(...some) };
  const discard = async () => (await yard.dead.discard("all", { archive })).run();
  const first = await discard();
  expect(first).toMatchObject({ done: 1, stopped: "error", error: { code: "unreachable" } });
  // Nothing more can be had of the one that is gone.
  expect(archived).toMatchObject([{ messageId: "a", reference: "log/0/0", body: '{"refersTo":{"place":"log/0/0"}}' }]);
  originals.set("log/0/1", [original("b", { n: 1 })]);
  expect(await discard()).toMatchObject({ done: 1, stopped: undefined });
  expect(archived[1]).toMatchObject({ messageId: "b", reference: "log/0/1", body: '{"n":1}' });
  expect(await yard.dead.count()).toMatchObject({ count: 0 });
  await yard.stop();
});

test("what lost headers on its way is sent back only where that is asked for", async () => {
  const { yard } = await opened(new Map());
  const cut = { [HEADER.cut]: "70000 bytes of headers: colour" };
  await yard.bury([{ id: "a", headers: cut }, { id: "b", headers: cut }, { id: "c" }]);
  const { entries } = await yard.dead.list();
  expect(entries.map(({ messageId, cut: said }) => [messageId, said]).sort()).toEqual([
    ["a", cut[HEADER.cut]],
    ["b", cut[HEADER.cut]],
    ["c", null],
  ]);
  const careful = await yard.dead.replay("all");
  expect(careful.plan.count).toBe(1);
  expect(careful.plan.refused).toMatchObject([{ count: 2, why: expect.stringContaining("incomplete") }]);
  await expect(yard.dead.edit("a", () => ({ n: 1 }))).rejects.toMatchObject({ code: "invalid" });
  await yard.dead.edit("a", () => ({ n: 1 }), { incomplete: true });
  const all = await yard.dead.replay("all", { incomplete: true });
  expect(await all.run()).toMatchObject({ done: 2 });
  // They still lack them, which their handlers can see.
  const lost = yard.sentBack().map(({ headers }) => headers[HEADER.cut]);
  expect(lost).toEqual([cut[HEADER.cut], cut[HEADER.cut], undefined]);
  await yard.stop();
});

test("where a broker cannot read what is referred to, the plan says so", async () => {
  const orders = queue<Order>("orders");
  const broker = createBroker(memory(), { destinations: [orders] });
  const dead = deadLetters(broker, orders);
  await broker.start();
  const yard = await Graveyard.open({ name: "memory", adapter: () => memory() }, { orders });
  await yard.bury([reference("a", "log/0/0")]);
  const { plan } = await yard.dead.replay("all");
  expect(plan).toMatchObject({ count: 0, refused: [{ count: 1, why: expect.stringContaining("unsupported") }] });
  expect(await dead.count()).toMatchObject({ count: 0 });
  await yard.stop();
  await broker.stop();
});
