import { expect, test } from "vitest";
import { createBroker } from "../../../../core/create-broker.ts";
import { queue } from "../../../../core/destination.ts";
import { HEADER } from "../../../../core/system-headers.ts";
import { burials, freshName, Graveyard, type Grounds, type Order } from "../graveyard.ts";

/** `replay` without its ramp. */
export function replayCases(grounds: () => Grounds): void {
  test("exactly those that were selected, as they were, and nothing that came after the plan", async () => {
    const yard = await Graveyard.open(grounds());
    await yard.bury([
      ...burials(5, "a", { key: "k", headers: { tenant: "acme" } }),
      ...burials(3, "b", { headers: { tenant: "other" } }),
    ]);
    const handled: { id: string; attempt: number; key: string | undefined; tenant: string | undefined }[] = [];
    const { plan, run } = await yard.dead.replay("header.tenant = acme");
    expect(plan).toMatchObject({
      action: "replay",
      source: yard.orders.name,
      filter: "header.tenant = acme",
      count: 5,
      destinations: [{ destination: yard.orders.name, count: 5 }],
      refused: [],
      beyondLimit: 0,
    });
    expect(yard.sentBack()).toEqual([]);
    await yard.bury(burials(2, "late", { headers: { tenant: "acme" } }));
    yard.broker.consume(yard.orders, (_, { id, attempt, key, headers }) => {
      handled.push({ id, attempt, key, tenant: headers.tenant });
    });
    const result = await run();
    expect(result).toMatchObject({ selected: 5, done: 5, failed: 0, missing: 0, cameBack: 0, stopped: undefined });
    await yard.until("all of them", () => handled.length >= 5);
    expect(handled.toSorted((one, other) => (one.id < other.id ? -1 : 1))).toEqual(
      burials(5, "a").map(({ id }) => ({ id, attempt: 1, key: "k", tenant: "acme" })),
    );
    const sent = yard.sentBack();
    expect(sent.map(({ id }) => id).sort()).toEqual(burials(5, "a").map(({ id }) => id));
    for (const { headers } of sent) {
      expect({ ...headers }).toEqual({ tenant: "acme", [HEADER.replays]: "1", [HEADER.replayRun]: plan.run });
    }
    const { entries } = await yard.dead.list();
    expect(entries.map(({ messageId }) => messageId).sort()).toEqual(
      ["b-00000", "b-00001", "b-00002", "late-00000", "late-00001"].sort(),
    );
    // Once more there is nothing left to do.
    await expect(run()).resolves.toMatchObject({ done: 0, missing: 5 });
    expect(yard.sentBack()).toHaveLength(5);
    await yard.stop();
  });

  test("the first so many, and copies of one message once", async () => {
    const yard = await Graveyard.open(grounds());
    const [first, second, third] = burials(3);
    await yard.bury(burials(3));
    // What a crash between the copy and its ack leaves: the same message, a moment later.
    await yard.bury([{ ...first, id: "m-00000", failedAt: Date.UTC(2026, 0, 1) + 500 }]);
    const { plan, run } = await yard.dead.replay("all", { limit: 3 });
    const copies = (await yard.dead.list()).entries.length;
    // On Kafka the two are one entry from the start.
    expect([3, 4]).toContain(copies);
    expect(plan).toMatchObject({ count: 3, beyondLimit: copies - 3 });
    await expect(run()).resolves.toMatchObject({ done: 3, stopped: undefined });
    const ids = copies === 4 ? [first?.id, second?.id] : [first?.id, second?.id, third?.id];
    expect(
      yard
        .sentBack()
        .map(({ id }) => id)
        .sort(),
    ).toEqual(ids);
    expect((await yard.dead.list()).entries.map(({ messageId }) => messageId)).toEqual(copies === 4 ? [third?.id] : []);
    await yard.stop();
  });

  test("not what was sent back too often, nor what would fail again at once", async () => {
    const yard = await Graveyard.open(grounds());
    await yard.bury([
      ...burials(1, "fresh"),
      ...burials(2, "tired", { replays: 3 }),
      ...burials(1, "broken", { reason: "invalid", body: "{no json" }),
    ]);
    const { plan, run } = await yard.dead.replay("all");
    expect(plan.count).toBe(1);
    expect(plan.refused).toMatchObject(
      [
        { why: "sent back 3 times already (maxReplays)", count: 2, example: expect.any(String) },
        { why: expect.stringContaining("does not take its body"), count: 1 },
      ].toSorted((one, other) => (plan.refused[0]?.count === one.count ? -1 : other.count - one.count)),
    );
    await run();
    expect(yard.sentBack().map(({ id }) => id)).toEqual(["fresh-00000"]);
    expect((await yard.dead.replay("all", { maxReplays: 4 })).plan.count).toBe(2);
    await yard.stop();
  });

  test("a message that fails every time, until the guard refuses it", async () => {
    const yard = await Graveyard.open(grounds());
    yard.broker.consume(
      yard.orders,
      () => {
        throw new Error("never");
      },
      { retry: { attempts: 1 } },
    );
    await yard.broker.send(yard.orders, { n: 1 }, { id: "poison" });
    const dead = async (replays: number): Promise<boolean> => {
      const { entries } = await yard.dead.list();
      return entries.some((entry) => entry.messageId === "poison" && entry.replays === replays);
    };
    for (const replays of [0, 1]) {
      await yard.until(`the dead letter after ${replays} replays`, () => dead(replays));
      const { run } = await yard.dead.replay("all", { maxReplays: 2 });
      await expect(run()).resolves.toMatchObject({ done: 1 });
    }
    await yard.until("the dead letter after 2 replays", () => dead(2));
    const { plan } = await yard.dead.replay("all", { maxReplays: 2 });
    expect([plan.count, plan.refused[0]?.count]).toEqual([0, 1]);
    await yard.stop();
  });

  test("with their keys, to an ordered destination", async () => {
    const orders = queue<Order>(freshName(grounds(), "ordered"), { ordered: true, key: ({ n }) => `k${n % 2}` });
    const yard = await Graveyard.open(grounds(), { orders });
    await yard.bury([...burials(3, "a", { key: "k0" }), ...burials(3, "b", { key: "k1" })]);
    const handled: string[] = [];
    yard.broker.consume(orders, (_, { id, key }) => void handled.push(`${id} ${key}`));
    const { run } = await yard.dead.replay("all");
    await expect(run()).resolves.toMatchObject({ done: 6, stopped: undefined });
    await yard.until("all of them", () => handled.length === 6);
    const wanted = [0, 1, 2].flatMap((n) => [`a-0000${n} k0`, `b-0000${n} k1`]);
    expect(handled.toSorted()).toEqual(wanted.toSorted());
    await yard.stop();
  });

  test("to another destination, which has to be there", async () => {
    const elsewhere = queue<Order>(freshName(grounds(), "elsewhere"));
    const yard = await Graveyard.open(grounds());
    const other = createBroker(grounds().adapter(), { destinations: [elsewhere] });
    await yard.bury(burials(2));
    await expect(yard.dead.replay("all", { to: elsewhere })).rejects.toMatchObject({ code: "not-found" });
    const handled: string[] = [];
    other.consume(elsewhere, (_, { id }) => void handled.push(id));
    await other.start();
    await expect(yard.dead.replay("all", { to: elsewhere, ramp: true })).rejects.toMatchObject({ code: "invalid" });
    const { plan, run } = await yard.dead.replay("all", { to: elsewhere });
    expect(plan.destinations).toEqual([{ destination: elsewhere.name, count: 2 }]);
    await expect(run()).resolves.toMatchObject({ done: 2 });
    await yard.until("both", () => handled.length === 2);
    expect(yard.sentBack()).toEqual([]);
    await yard.stop();
    await other.stop();
  });

  test("until the run is cancelled; the rest when it is resumed, from the plan as JSON", async () => {
    const yard = await Graveyard.open(grounds());
    await yard.bury(burials(30));
    const { plan, run } = await yard.dead.replay("all", { rate: 3 });
    const controller = new AbortController();
    const seen: number[] = [];
    const cancelled = await run({
      signal: controller.signal,
      onProgress: ({ done }) => {
        seen.push(done);
        if (done >= 5) controller.abort();
        throw new Error("an observer that fails");
      },
    });
    expect(cancelled.stopped).toBe("cancelled");
    expect(cancelled.done).toBeGreaterThanOrEqual(5);
    expect(cancelled.done).toBeLessThan(30);
    expect(seen).toEqual(seen.toSorted((one, other) => one - other));
    await yard.until("the others to be back", async () => (await yard.dead.count()).count === 30 - cancelled.done);
    const kept = JSON.parse(JSON.stringify(plan)) as typeof plan;
    const resumed = await (await yard.dead.resume(kept, { rate: 1_000 })).run();
    expect(resumed).toMatchObject({
      run: plan.run,
      done: 30 - cancelled.done,
      missing: cancelled.done,
      stopped: undefined,
    });
    expect(
      yard
        .sentBack()
        .map(({ id }) => id)
        .sort(),
    ).toEqual(burials(30).map(({ id }) => id));
    await expect((await yard.dead.list()).entries).toEqual([]);
    await yard.stop();
  });

  test("and told to the audit, before and after", async () => {
    const told: string[] = [];
    const yard = await Graveyard.open(grounds(), {
      dead: {
        by: "ann",
        audit: async ({ phase, count }) => {
          told.push(`${phase} ${count}`);
          if (told.length === 1) throw new Error("the audit is down");
        },
      },
    });
    await yard.bury(burials(2));
    const { run, plan } = await yard.dead.replay("reason = attempts");
    await expect(run()).rejects.toThrow("the audit is down");
    expect(yard.sentBack()).toEqual([]);
    await expect(run()).resolves.toMatchObject({ done: 2 });
    expect(told).toEqual(["begun 2", "begun 2", "ended 2"]);
    const audits = yard.events.filter(({ type }) => type === "audit");
    const event = {
      type: "audit",
      action: "replay",
      run: plan.run,
      source: yard.orders.name,
      by: "ann",
      at: expect.any(String),
      filter: "reason = attempts",
      count: 2,
    };
    expect(audits).toEqual([
      { ...event, phase: "begun" },
      { ...event, phase: "begun" },
      { ...event, phase: "ended" },
    ]);
    await yard.stop();
  });
}
