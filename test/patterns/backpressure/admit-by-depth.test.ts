import { describe, expect, it } from "vitest";
import type { Publisher, Receipt } from "../../../core/broker.ts";
import { queue, topic } from "../../../core/destination.ts";
import { MessagingError } from "../../../core/errors.ts";
import { type AdmissionOptions, admitByDepth } from "../../../patterns/backpressure/index.ts";
import { ScriptedDepth } from "./scripted-depth.ts";
import { virtualWorld } from "./virtual.ts";

const orders = queue<number>("orders");
const other = queue<number>("other");
const placed = topic<number>("placed");

/** A publisher that stores at once, on a depth that the test may change. */
function scripted(options: Partial<AdmissionOptions> = {}) {
  const world = virtualWorld("admission");
  const depth = new ScriptedDepth();
  const sent: { body: unknown; timeoutMs: number | undefined }[] = [];
  const send = async (_: unknown, body: unknown, own?: { readonly timeoutMs?: number }): Promise<Receipt> => {
    sent.push({ body, timeoutMs: own?.timeoutMs });
    depth.ready++;
    return { id: String(body) };
  };
  const publisher: Publisher = {
    send,
    publish: send,
    sendMany: () => Promise.reject(new Error("not used")),
    publishMany: () => Promise.reject(new Error("not used")),
  };
  const admitting = admitByDepth(
    { ...publisher, depth: depth.depth },
    {
      limits: [{ destination: orders, maxDepth: 10, resumeAt: 4 }],
      pollMs: 1_000,
      clock: world.clock,
      ...options,
    },
  );
  const bodies = () => sent.map(({ body }) => body);
  return { ...world, depth, sent, bodies, admitting };
}

describe("admitByDepth", () => {
  it("sends what there is room for, to the message, and the rest in order when the low mark is reached", async () => {
    const { admitting, bodies, depth, finish, pass, clock } = scripted();
    const sends = Array.from({ length: 25 }, (_, n) => admitting.send(orders, n));
    await pass(5_000);
    expect(bodies()).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(admitting.status()).toEqual([{ destination: 'queue "orders"', depth: 10, full: true, waiting: 15 }]);
    depth.ready = 5;
    await pass(3_000);
    expect(bodies()).toHaveLength(10);
    depth.ready = 4;
    await pass(1_001);
    expect(bodies()).toEqual(Array.from({ length: 16 }, (_, n) => n));
    depth.ready = 0;
    await finish(Promise.all(sends));
    expect(bodies()).toEqual(Array.from({ length: 25 }, (_, n) => n));
    expect(clock.pending).toBe(0);
  });

  it("asks at a bounded rate, once for all, and not at all when nobody sends", async () => {
    const { admitting, depth, finish, pass } = scripted({ limits: [{ destination: orders, maxDepth: 1_000_000 }] });
    await finish(Promise.all(Array.from({ length: 500 }, (_, n) => admitting.send(orders, n))));
    expect(depth.asked).toBe(1);
    for (let n = 0; n < 500; n++) await finish(admitting.send(orders, n));
    expect(depth.asked).toBe(1);
    await pass(60_000);
    expect(depth.asked).toBe(1);
    for (let n = 0; n < 100; n++) {
      await pass(100);
      await finish(admitting.send(orders, n));
    }
    expect(depth.asked).toBeLessThanOrEqual(12);
    expect(depth.asked).toBeGreaterThanOrEqual(10);
  });

  it("refuses at once when told to, and takes messages again from the low mark down", async () => {
    const { admitting, bodies, depth, finish, pass } = scripted({ whenFull: "fail" });
    const sends = await finish(Promise.allSettled(Array.from({ length: 12 }, (_, n) => admitting.send(orders, n))));
    expect(sends.map(({ status }) => status)).toEqual([...Array(10).fill("fulfilled"), "rejected", "rejected"]);
    const refused = (): Promise<unknown> =>
      admitting.send(orders, 99).then(
        () => "sent",
        (error: MessagingError) => `${error.code}: ${error.message}`,
      );
    expect(await refused()).toMatch(/^overloaded: queue "orders" is full: 10 messages of 10\. .*from 4 down/);
    depth.ready = 5;
    await pass(2_000);
    expect(await refused()).toMatch(/^overloaded/);
    await pass(2_000);
    expect(await refused()).toMatch(/^overloaded/);
    depth.ready = 4;
    await pass(2_000);
    await refused();
    await pass(1);
    expect(await refused()).toBe("sent");
    expect(bodies().at(-1)).toBe(99);
  });

  it("keeps to the time of each send, and sends nothing after it was refused", async () => {
    const { admitting, bodies, depth, finish, pass, sent, time, clock } = scripted({ timeoutMs: 20_000 });
    depth.ready = 10;
    const short = admitting.send(orders, 1, { timeoutMs: 3_000 });
    const long = admitting.send(orders, 2);
    const later = admitting.send(orders, 3, { timeoutMs: 60_000 });
    const ends = [short, long].map((send) => send.catch((error: MessagingError) => `${error.code} at ${time.now}`));
    expect(await finish(ends[0] as Promise<unknown>)).toBe("timeout at 3000");
    expect(await finish(ends[1] as Promise<unknown>)).toBe("timeout at 20000");
    depth.ready = 0;
    await finish(later);
    expect(bodies()).toEqual([3]);
    // What is left of its time is the publisher's.
    expect(sent[0]?.timeoutMs).toBeGreaterThan(38_000);
    expect(sent[0]?.timeoutMs).toBeLessThan(40_001);
    await pass(1);
    expect(clock.pending).toBe(0);
  });

  it("lets go of a send whose signal is aborted while it waits", async () => {
    const { admitting, bodies, depth, finish, clock } = scripted();
    depth.ready = 10;
    const abort = new AbortController();
    const sends = Promise.allSettled([
      admitting.send(orders, 1, { signal: abort.signal }),
      admitting.send(orders, 2, { signal: AbortSignal.abort() }),
      admitting.send(orders, 3),
    ]);
    abort.abort();
    expect(admitting.status()).toMatchObject([{ waiting: 1 }]);
    depth.ready = 0;
    const [first, second, third] = await finish(sends);
    for (const end of [first, second]) expect(end).toMatchObject({ reason: { code: "aborted" } });
    expect(third?.status).toBe("fulfilled");
    expect(bodies()).toEqual([3]);
    expect(clock.pending).toBe(0);
  });

  it("lets messages pass when the depth cannot be had: soon if it was known, at once if there is none", async () => {
    const { admitting, bodies, depth, finish, pass, time } = scripted();
    depth.ready = 10;
    const waiting = [1, 2, 3].map((n) => admitting.send(orders, n, { timeoutMs: 60_000 }));
    await pass(5_000);
    expect(bodies()).toEqual([]);
    depth.silent = true;
    await finish(Promise.all(waiting));
    expect(time.now).toBeLessThan(25_000);
    await finish(admitting.send(orders, 4));
    expect(admitting.status()[0]).toMatchObject({ depth: undefined, full: false });
    // Known again, it counts again.
    depth.silent = false;
    depth.ready = 50;
    await pass(10_000);
    await finish(admitting.send(orders, 5));
    await pass(1);
    const late = admitting.send(orders, 6);
    await pass(1_000);
    expect(admitting.status()[0]).toMatchObject({ depth: 51, full: true, waiting: 1 });
    depth.error = new MessagingError("not-found", "it is gone");
    const gone = time.now;
    expect(await finish(late)).toEqual({ id: "6" });
    expect(time.now - gone).toBeLessThanOrEqual(2_000);
    expect(await finish(admitting.send(orders, 7))).toEqual({ id: "7" });
  });

  it("limits what it is told to, and an event by the fullest of its subscriptions", async () => {
    const { admitting, finish, pass, bodies } = scripted({
      limits: [
        { destination: placed, subscription: "billing", maxDepth: 5 },
        { destination: placed, subscription: "mail", maxDepth: 3 },
      ],
    });
    await finish(admitting.sendMany(other, [{ body: 1 }, { body: 2 }]));
    const receipts = admitting.publishMany(
      placed,
      [10, 11, 12, 13].map((body) => ({ body, options: { timeoutMs: 2_000 } })),
    );
    const failure = await finish(receipts.catch((error: MessagingError) => error));
    expect(failure).toMatchObject({ code: "partly-failed" });
    expect((failure as MessagingError).outcomes.map(({ status }) => status)).toEqual([
      "confirmed",
      "failed",
      "failed",
      "failed",
    ]);
    await pass(1);
    expect(bodies()).toEqual([1, 2, 10]);
    expect(admitting.status().map(({ destination }) => destination)).toEqual([
      'subscription "billing" of topic "placed"',
      'subscription "mail" of topic "placed"',
    ]);
  });

  it("bounds a real queue that nobody consumes for a while, from two publishers", async () => {
    const { broker, another, clock, finish, pass, until } = virtualWorld("real");
    const limits = [{ destination: orders, maxDepth: 50, resumeAt: 20 }];
    const consumer = broker.consume(orders, () => {}, { concurrency: 1 });
    consumer.pause();
    await finish(broker.start());
    const second = another({ destinations: [orders] });
    await finish(second.start());
    const sends = [broker, second].flatMap((from) => {
      const admitting = admitByDepth(from, { limits, clock, pollMs: 100 });
      return Array.from({ length: 200 }, (_, n) => admitting.send(orders, n, { timeoutMs: 600_000 }));
    });
    await pass(60_000);
    // Each may add what it sends between two answers.
    expect((await finish(broker.depth(orders))).ready).toBeLessThanOrEqual(100);
    consumer.resume();
    await finish(Promise.all(sends));
    await until(() => consumer.status().succeeded === 400);
    await finish(second.stop());
    await finish(broker.stop());
  });

  it("refuses what makes no sense", () => {
    const broker = virtualWorld("wrong").broker;
    const wrong = [
      { limits: [] },
      { limits: [{ destination: orders, maxDepth: 0 }] },
      { limits: [{ destination: orders, maxDepth: 5, resumeAt: 5 }] },
      { limits: [{ destination: orders, subscription: "x", maxDepth: 5 }] },
      { limits: [{ destination: placed, maxDepth: 5 }] },
      { limits: [{ destination: orders, maxDepth: 5, high: 5 }] },
      { limits: [{ destination: orders, maxDepth: 5 }], whenFull: "drop" },
      { limits: [{ destination: orders, maxDepth: 5 }], pollMs: 0 },
      { limits: [{ destination: orders, maxDepth: 5 }], timeout: 5 },
    ];
    for (const options of wrong) {
      expect(() => admitByDepth(broker, options as never), JSON.stringify(options)).toThrow(
        expect.objectContaining({ code: "invalid" }),
      );
    }
  });
});
