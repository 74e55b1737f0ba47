import { expect, test } from "vitest";
import { deadLetter } from "../../../../core/delivery.ts";
import { type Queue, queue } from "../../../../core/destination.ts";
import { isMessagingError } from "../../../../core/errors.ts";
import { burials, freshName, Graveyard, type Grounds, type Order } from "../graveyard.ts";

class CardError extends Error {
  override readonly name = "CardError";
}

const LOST_TIMES = { firstFailedAt: expect.any(String), lastFailedAt: expect.any(String) };

/** `list`, `entries`, `count` and `groups`. */
export function readingCases(grounds: () => Grounds): void {
  test("as the same JSON on every broker", async () => {
    const yard = await Graveyard.open(grounds());
    const consumer = yard.broker.consume(
      yard.orders,
      ({ n }) => {
        if (n === 2) return deadLetter("there is nothing to charge");
        throw new CardError(`card 4711-${n} was refused after ${n * 100} ms`);
      },
      { retry: { attempts: 2, delay: { firstMs: 10 } }, concurrency: 1 },
    );
    const before = Date.now();
    const headers = { tenant: "acme", city: "Zürich" };
    await yard.broker.send(yard.orders, { n: 1 }, { id: "order-1", key: "k1", headers });
    await yard.until("the first", () => consumer.status().deadLettered === 1);
    await yard.broker.send(yard.orders, { n: 2 }, { id: "order-2" });
    await yard.until("the second", () => consumer.status().deadLettered === 2);
    const { entries, next, complete } = await yard.dead.list();
    // Both may have failed in one millisecond, and then either comes first.
    const [first, second] = ["order-1", "order-2"].map((id) => entries.find(({ messageId }) => messageId === id));
    expect(first).toEqual({
      id: expect.stringMatching(/^[\w-]{22}$/),
      messageId: "order-1",
      destination: yard.orders.name,
      key: "k1",
      routingKey: null,
      reason: "attempts",
      errorClass: "CardError",
      error: "card 4711-1 was refused after 100 ms",
      attempts: 2,
      ...LOST_TIMES,
      firstPublishedAt: expect.any(String),
      replays: 0,
      replayRun: null,
      editedFrom: null,
      cut: null,
      reference: null,
      group: expect.stringMatching(/^[0-9a-f]{12}$/),
      headers,
      contentType: "application/json",
      size: 7,
      body: '{"n":1}',
      bodyEncoding: "text",
      bodyCut: false,
      valid: "unknown",
    });
    expect(second).toMatchObject({ messageId: "order-2", key: null, reason: "rejected", attempts: 1, headers: {} });
    expect([entries.length, next, complete]).toEqual([2, null, true]);
    for (const time of [first?.firstFailedAt, first?.lastFailedAt, first?.firstPublishedAt]) {
      expect(Date.parse(time ?? "")).toBeGreaterThanOrEqual(before);
    }
    // Looked at once more, nothing is different.
    expect((await yard.dead.list()).entries).toEqual(entries);
    expect((await yard.dead.list({ filter: `id = ${first?.id}` })).entries).toEqual([first]);
    await yard.stop();
  });

  test("by pages, in the order of their failures, and in one go", async () => {
    const yard = await Graveyard.open(grounds());
    const all = burials(25);
    await yard.bury(all.toReversed());
    const seen: string[] = [];
    let cursor: string | null = null;
    let pages = 0;
    do {
      const page = await yard.dead.list({ limit: 10, bodyBytes: 4, ...(cursor === null ? {} : { cursor }) });
      seen.push(...page.entries.map(({ messageId }) => messageId));
      expect(page.entries[0]).toMatchObject({ body: '{"n"', bodyCut: true });
      cursor = page.next;
      pages++;
    } while (cursor !== null);
    expect(seen).toEqual(all.map(({ id }) => id));
    expect(pages).toBe(3);
    const gone = new Set<string>();
    for await (const { messageId } of yard.dead.entries({ filter: "id != m-00003" })) gone.add(messageId);
    expect(gone.size).toBe(24);
    await expect(yard.dead.count("id in (m-00003, m-00004, x)")).resolves.toMatchObject({ count: 2, complete: true });
    await yard.until("the count of all", async () => (await yard.dead.count()).count === 25);
    await yard.stop();
  });

  test("in groups of one failure each", async () => {
    const yard = await Graveyard.open(grounds());
    await yard.bury([
      ...burials(3, "a", { errorClass: "CardError" }),
      ...burials(2, "b", { errorClass: "TypeError", error: "x is not a function" }),
    ]);
    const { groups, others, complete } = await yard.dead.groups();
    expect(groups).toMatchObject([
      {
        destination: yard.orders.name,
        errorClass: "CardError",
        error: "order <n> was refused",
        count: 3,
        firstFailedAt: "2026-01-01T00:00:00.000Z",
        lastFailedAt: "2026-01-01T00:00:02.000Z",
        example: { messageId: "a-00000" },
      },
      { errorClass: "TypeError", error: "x is not a function", count: 2, example: { messageId: "b-00000" } },
    ]);
    expect([others, complete]).toEqual([0, true]);
    const { entries } = await yard.dead.list({ filter: `group = ${groups[1]?.group}` });
    expect(entries.map(({ messageId }) => messageId)).toEqual(["b-00000", "b-00001"]);
    await expect(yard.dead.groups({ limit: 1 })).resolves.toMatchObject({ groups: [{}] });
    await yard.stop();
  });

  test("also what was too old, whoever noticed that", async () => {
    const name = freshName(grounds(), "orders");
    const orders: Queue<Order> = queue<Order>(name, { ttlMs: 50 });
    const yard = await Graveyard.open(grounds(), { orders });
    await yard.broker.send(orders, { n: 1 }, { id: "old" });
    const sent = Date.now();
    await yard.until("its time to be over", () => Date.now() > sent + 60);
    yard.broker.consume(orders, () => {});
    await yard.until("its end", async () => (await yard.dead.count()).count === 1);
    const { entries } = await yard.dead.list({ filter: "reason = expired" });
    expect(entries).toMatchObject([{ messageId: "old", reason: "expired", destination: name, ...LOST_TIMES }]);
    // Sent back, its time begins anew: it is handled, or expires once more, and does not vanish.
    const { plan, run } = await yard.dead.replay("all");
    expect(plan.count).toBe(1);
    await expect(run()).resolves.toMatchObject({ done: 1, stopped: undefined });
    await yard.stop();
  });

  test("where there are none", async () => {
    const yard = await Graveyard.open(grounds());
    await expect(yard.dead.list()).resolves.toMatchObject({ entries: [], next: null, complete: true });
    await expect(yard.dead.groups()).resolves.toMatchObject({ groups: [], others: 0 });
    const { plan, run } = await yard.dead.replay("all");
    expect(plan).toMatchObject({ count: 0, destinations: [], refused: [], entries: [] });
    await expect(run()).resolves.toMatchObject({ done: 0, missing: 0, stopped: undefined });
    await yard.stop();
    const closed = await yard.dead.list().catch((error: unknown) => error);
    expect(isMessagingError(closed, "closed")).toBe(true);
  });
}
