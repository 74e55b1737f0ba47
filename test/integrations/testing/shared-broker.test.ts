import { setTimeout } from "node:timers/promises";
import { MessagingError, queue, subscription, topic } from "anybroker";
import { systemClock } from "anybroker/adapter";
import { deadLetters } from "anybroker/dead-letters";
import { idempotent, memoryIdempotencyStore } from "anybroker/idempotency";
import { memory, memorySpace } from "anybroker/memory";
import { testBroker } from "anybroker/testing";
import { expect, expectTypeOf, test } from "vitest";
import { z } from "zod";
import { Ledger } from "../../../integrations/testing/ledger.ts";

const jobs = queue<number>("jobs", { ordered: true, key: () => "k" });
const events = topic<number>("events");

test("two tests on one broker do not meet, and find their own under the names that the application knows", async () => {
  const space = memorySpace();
  const kits = [1, 2].map((n) => {
    const kit = testBroker({
      adapter: memory({ space }),
      destinations: [subscription(events, "all", { filter: "#" })],
    });
    const seen: (readonly [string, string | undefined, number])[] = [];
    kit.broker.consume(
      jobs,
      (body, { destination }) => {
        seen.push([destination, undefined, body]);
        if (body > 1000) throw new Error("too much");
      },
      { retry: { attempts: 1 } },
    );
    kit.broker.subscribe(
      events,
      "all",
      (body, { destination, subscription }) => void seen.push([destination, subscription, body]),
      { filter: "#" },
    );
    return { kit, seen, n };
  });
  for (const { kit } of kits) await kit.broker.start();
  for (const { kit, n } of kits) {
    await kit.broker.send(jobs, n);
    await kit.broker.send(jobs, 1000 + n);
    await kit.broker.publish(events, 10 * n);
  }
  for (const { kit, n, seen } of kits) {
    await kit.idle();
    expect(seen.sort()).toEqual(
      [
        ["events", "all", 10 * n],
        ["jobs", undefined, n],
        ["jobs", undefined, 1000 + n],
      ].sort(),
    );
    const [dead] = kit.deadLetters(jobs);
    expect(dead).toMatchObject({ source: "jobs", body: 1000 + n });
    const { entries } = await deadLetters(kit.broker, jobs).list();
    expect(entries).toMatchObject([{ destination: "jobs", reason: "attempts" }]);
    expect(await kit.broker.depth(jobs)).toMatchObject({ ready: 0 });
    expect(kit.namePrefix).toMatch(/^test-[0-9a-v]{10}-$/);
  }
  const [one, other] = kits;
  expect(one?.kit.namePrefix).not.toBe(other?.kit.namePrefix);
  for (const { kit } of kits) await kit.close();
});

test("what others send under the same prefix is waited for by depth", async () => {
  const space = memorySpace();
  const namePrefix = "shared-";
  await using here = testBroker({
    adapter: memory({ space }),
    namePrefix,
    consume: { prefetch: { messages: 1 }, concurrency: 1 },
  });
  await using there = testBroker({ adapter: memory({ space }), namePrefix, destinations: [jobs] });
  let handled = 0;
  here.broker.consume(jobs, async () => {
    await setTimeout(1);
    handled++;
  });
  await here.broker.start();
  await there.broker.start();
  await there.broker.sendMany(
    jobs,
    Array.from({ length: 20 }, (_, body) => ({ body })),
  );
  await here.idle();
  expect(handled).toBe(20);
  expect([here.sent(jobs).length, here.consumed(jobs).length]).toEqual([0, 20]);
});

test("what stands on the broker is waited for, whoever sent it, and named when it stays", async () => {
  let ready = 3;
  const depth = async () => ({ ready: Math.max(ready--, 0), unsettled: 0, exact: false });
  await using kit = testBroker({ adapter: Object.assign(memory(), { depth }) });
  kit.broker.consume(jobs, () => {});
  await kit.broker.start();
  await kit.idle();
  expect(ready).toBe(-1);
  ready = Number.MAX_SAFE_INTEGER;
  await expect(kit.idle({ timeoutMs: 50 })).rejects.toThrow(/with this left:\n- queue "jobs" has \d+ messages ready$/);
});

test("what the broker did not take, or gave back, is not waited for twice, nor forgotten", async () => {
  const adapter = memory();
  const send = adapter.send.bind(adapter);
  const refuse: typeof send = (to, batch, report) => {
    const refused = new MessagingError("refused", "no room for 13");
    if (batch.some(({ id }) => id === "13")) report(0, { status: "rejected", error: refused });
    else send(to, batch, report);
  };
  await using kit = testBroker({ adapter: Object.assign(adapter, { send: refuse }) });
  kit.broker.consume(jobs, () => {});
  await kit.broker.start();
  await expect(kit.broker.send(jobs, 1, { id: "13" })).rejects.toMatchObject({ code: "refused" });
  await kit.idle({ timeoutMs: 20_000 });

  const ledger = new Ledger(systemClock());
  const work = { kind: "queue", name: "jobs" } as const;
  const message = { id: "1", delayMs: 0, ttlMs: undefined, headers: {}, body: new Uint8Array() };
  ledger.handedOver(work, message as never);
  ledger.ended(ledger.delivered(work, message as never), false);
  expect(ledger.waiting()).toMatchObject([{ work, id: "1" }]);
  ledger.ended(ledger.delivered(work, message as never), true);
  expect(ledger.waiting()).toEqual([]);
});

test("several broker objects on adapters of their own share a prefix", async () => {
  const space = memorySpace();
  await using kit = testBroker({ adapter: () => memory({ space }), destinations: [queue("others")] });
  const worker = kit.createBroker({ destinations: [queue("others")] });
  worker.consume(jobs, () => {});
  await worker.start();
  await kit.broker.start();
  await kit.broker.send(jobs, 1);
  await kit.idle();
  expect(kit.consumed(jobs)).toHaveLength(1);
});

test("patterns work on the kit's broker, in its time", async () => {
  await using kit = testBroker();
  const mails = queue<number>("mails");
  let effects = 0;
  kit.broker.consume(mails, () => void effects++, {
    use: [idempotent(memoryIdempotencyStore())],
  });
  await kit.broker.start();
  await kit.broker.send(mails, 1, { id: "m-1" });
  await kit.broker.send(mails, 1, { id: "m-1" });
  await kit.idle();
  expect(effects).toBe(1);
  expect(kit.sent(mails)).toHaveLength(2);
});

test("what is recorded has the types of the destination", () => {
  const kit = testBroker();
  const orders = queue("orders", { schema: z.object({ id: z.string(), total: z.coerce.number().default(0) }) });
  expectTypeOf(kit.sent(orders)[0]?.body).toEqualTypeOf<{ id: string; total?: unknown } | undefined>();
  expectTypeOf(kit.consumed(orders)[0]?.body).toEqualTypeOf<{ id: string; total: number } | undefined>();
  expectTypeOf(kit.consumed(events, "all")[0]?.body).toEqualTypeOf<number | undefined>();
  expectTypeOf(kit.deadLetters(orders)[0]?.body).toBeUnknown();
  // @ts-expect-error a topic is consumed by its subscriptions
  expect(() => kit.consumed(events)).toThrow();
});
