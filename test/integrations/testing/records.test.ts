import { bytesCodec, type Middleware, queue, retry, topic } from "anybroker";
import { deadLetters } from "anybroker/dead-letters";
import { memory } from "anybroker/memory";
import { testBroker } from "anybroker/testing";
import { describe, expect, test } from "vitest";
import { z } from "zod";

const orders = queue("orders", {
  schema: z.object({ id: z.string(), at: z.iso.datetime().transform((text) => new Date(text)) }),
  key: ({ id }) => id,
});
const at = "2031-02-03T04:05:06.789Z";

test("what is sent is what the wire carries, what is consumed is what the handler was given", async () => {
  await using kit = testBroker({ startAt: new Date(at) });
  kit.broker.consume(orders, () => {});
  await kit.broker.start();
  const options = { id: "m-1", headers: { "x-a": "b" }, delayMs: 1_000, ttlMs: 5_000 };
  await kit.broker.send(orders, { id: "o-1", at }, options);
  await kit.idle();
  const [sent] = kit.sent(orders);
  expect(sent).toStrictEqual({
    id: "m-1",
    key: "o-1",
    routingKey: undefined,
    headers: { "x-a": "b" },
    at: new Date(at),
    body: { id: "o-1", at },
    contentType: "application/json",
    delayMs: 1_000,
    priority: 0,
    ttlMs: 6_000,
  });
  const [consumed] = kit.consumed(orders);
  expect(consumed?.body.at).toStrictEqual(new Date(at));
  expect(consumed).toMatchObject({ id: "m-1", key: "o-1", headers: { "x-a": "b" }, attempt: 1 });
  expect(consumed?.at.getTime()).toBe(new Date(at).getTime() + 1_000);
  expect(consumed?.firstPublishedAt).toEqual(new Date(at));
  // A fresh body at each call: what a test does to one is not in the next.
  expect(kit.sent(orders)[0]?.body).not.toBe(sent?.body);
});

test("bodies of other codecs are read by them, and dead ones as far as they can be", async () => {
  await using kit = testBroker();
  const images = queue<Uint8Array>("images", { codec: bytesCodec });
  const asJson = queue<number>("images");
  kit.broker.consume(asJson, () => {});
  await kit.broker.start();
  const bytes = new Uint8Array([1, 2, 3]);
  // The same bytes again, under the same id, are no copy of the engine's.
  await kit.broker.send(images, bytes, { id: "m-1" });
  await kit.broker.send(images, bytes, { id: "m-1" });
  await kit.idle();
  expect(kit.sent(images).map(({ body }) => [...body])).toEqual([
    [1, 2, 3],
    [1, 2, 3],
  ]);
  expect(kit.deadLetters(asJson)).toHaveLength(2);
  expect(kit.deadLetters(asJson)[0]).toMatchObject({ reason: "invalid", body: undefined, attempts: 0 });
  expect(kit.deadLetters(images)[0]?.body).toStrictEqual(bytes);
  expect([...(kit.deadLetters(asJson)[0]?.bytes ?? [])]).toEqual([1, 2, 3]);
});

test("a queue and a topic of one name are kept apart", async () => {
  await using kit = testBroker({ destinations: [queue("shop")] });
  const shop = topic<number>("shop");
  kit.broker.subscribe(shop, "all", () => {});
  await kit.broker.start();
  await kit.broker.send(queue<string>("shop"), "work");
  await kit.broker.publish(shop, 1);
  await kit.idle();
  expect(kit.sent(queue<string>("shop")).map(({ body }) => body)).toEqual(["work"]);
  expect(kit.sent(shop).map(({ body }) => body)).toEqual([1]);
});

test("what middleware has tried again is not consumed before it is settled for good", async () => {
  let vetoes = 2;
  const veto: Middleware = (next) => async (body, delivery) => {
    const result = await next(body, delivery);
    return vetoes-- > 0 ? retry({ afterMs: 10 }) : result;
  };
  await using kit = testBroker({ use: [veto] });
  const jobs = queue<number>("jobs");
  kit.broker.consume(jobs, () => {});
  await kit.broker.start();
  await kit.broker.send(jobs, 1);
  await kit.idle();
  expect(kit.consumed(jobs).map(({ attempt }) => attempt)).toEqual([3]);
});

test("a send that the broker does not take is not recorded", async () => {
  await using kit = testBroker({ destinations: [orders] });
  await kit.broker.start();
  await expect(kit.broker.send(queue("unknown"), 1)).rejects.toMatchObject({ code: "not-found" });
  await expect(kit.broker.send(orders, { id: 5 } as never)).rejects.toMatchObject({ code: "invalid" });
  expect([...kit.sent(queue("unknown")), ...kit.sent(orders)]).toEqual([]);
});

describe("dead letters", () => {
  const jobs = queue<{ secret: string }>("jobs");

  async function withDeadLetters() {
    const kit = testBroker();
    let broken = true;
    kit.broker.consume(
      jobs,
      () => {
        if (broken) throw new TypeError("the bank is closed");
      },
      { retry: { attempts: 3 } },
    );
    await kit.broker.start();
    for (const id of ["m-1", "m-2"])
      await kit.broker.send(jobs, { secret: "canary" }, { id, headers: { h: "canary" } });
    await kit.idle();
    return { kit, mend: () => (broken = false) };
  }

  test("are listed with their reasons, and named without their bodies when none is expected", async () => {
    const { kit } = await withDeadLetters();
    expect(kit.deadLetters(jobs)).toMatchObject([
      { id: "m-1", source: "jobs", reason: "attempts", attempts: 3, errorClass: "TypeError", headers: { h: "canary" } },
      { id: "m-2", error: "the bank is closed", body: { secret: "canary" } },
    ]);
    let thrown: unknown;
    try {
      kit.expectNoDeadLetters();
    } catch (error) {
      thrown = error;
    }
    expect((thrown as Error).message).toBe(
      [
        "2 dead letters, but none was expected:",
        "- jobs: message m-1, attempts after 3 attempts: TypeError: the bank is closed",
        "- jobs: message m-2, attempts after 3 attempts: TypeError: the bank is closed",
      ].join("\n"),
    );
    kit.expectNoDeadLetters(queue("others"));
    kit.expectNoDeadLetters(topic("others"), "all");
    await kit.close();
  });

  test("are gone when they were sent back, which is sent again, and handled", async () => {
    const { kit, mend } = await withDeadLetters();
    mend();
    const replay = await kit.clock.passUntil(deadLetters(kit.broker, jobs).replay("id = m-1"));
    await kit.clock.passUntil(replay.run());
    await kit.idle();
    expect(kit.deadLetters(jobs).map(({ id }) => id)).toEqual(["m-2"]);
    expect(kit.sent(jobs).map(({ id }) => id)).toEqual(["m-1", "m-2", "m-1"]);
    expect(kit.consumed(jobs).map(({ id }) => id)).toEqual(["m-1"]);
    await kit.close();
  });
});

test("clear forgets what was recorded and what was to fail, and leaves the messages", async () => {
  await using kit = testBroker({ destinations: [queue("jobs")] });
  const jobs = queue<number>("jobs");
  await kit.broker.start();
  await kit.broker.send(jobs, 1);
  const failure = kit.failNext({ sending: jobs });
  kit.clear();
  expect([kit.sent(jobs), failure.left]).toEqual([[], 0]);
  await kit.broker.send(jobs, 2);
  expect(await kit.broker.depth(jobs)).toMatchObject({ ready: 2 });
});

describe("is refused", () => {
  const refusals: readonly [string, () => unknown, RegExp][] = [
    ["an unknown option", () => testBroker({ clocks: 1 } as object), /testBroker has no option "clocks"/],
    ["a clock", () => testBroker({ clock: 1 } as object), /no option "clock"/],
    ["a start of no time", () => testBroker({ startAt: new Date("never") }), /a valid Date/],
    ["a start for an adapter", () => testBroker({ adapter: memory(), startAt: new Date() }), /uses real time/],
    ["a prefix that no name begins with", () => testBroker({ namePrefix: "a b" }), /is no name for a name prefix/],
    [
      "a second broker object on one adapter",
      () => testBroker({ adapter: memory() }).createBroker(),
      /pass testBroker a function/,
    ],
    ["a topic without its subscription", () => testBroker().consumed(topic("t") as never), /subscription/],
    ["what is no destination", () => testBroker().sent(undefined as never), /takes a queue/],
    [
      "a subscription's dead letters without its name",
      () => testBroker().deadLetters(topic("t") as never),
      /subscription/,
    ],
    ["to idle until nothing", () => testBroker({ idleTimeoutMs: 0 }), /idleTimeoutMs/],
    ["an unknown option of another broker", () => testBroker().createBroker({ clock: 1 } as object), /"clock"/],
  ];

  test.for(refusals)("%s", ([, refused, message]) => {
    expect(refused).toThrow(expect.objectContaining({ code: "invalid", message: expect.stringMatching(message) }));
  });

  test("an option of idle that is none", async () => {
    await expect(testBroker().idle({ within: 1 } as object)).rejects.toMatchObject({ code: "invalid" });
    await expect(testBroker().idle({ dueWithinMs: -1 })).rejects.toMatchObject({ code: "invalid" });
  });
});
