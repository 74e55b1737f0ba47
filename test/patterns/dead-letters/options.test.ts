import { deadLetters, memoryArchive } from "anybroker/dead-letters";
import { describe, expect, test } from "vitest";
import { memory } from "../../../adapters/memory/index.ts";
import type { Broker } from "../../../core/broker.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { queue, topic } from "../../../core/destination.ts";
import { Pacer } from "../../../patterns/dead-letters/run.ts";
import { ProcessClock, VirtualTime } from "../../simulation/virtual-time.ts";
import { burials, Graveyard, type Order } from "./graveyard.ts";

const orders = queue<Order>("orders");
const placed = topic<Order>("placed");
const broker = createBroker(memory(), { destinations: [orders] });
/** What a caller without types may pass. */
const loose = deadLetters as unknown as (...given: readonly unknown[]) => unknown;

describe("deadLetters refuses", () => {
  test.for([
    ["a wrapper around a broker", [{ send: () => {} }, orders], "made by createBroker()"],
    ["no broker", [undefined, orders], "made by createBroker()"],
    ["a topic without its subscription", [broker, placed], "a topic and the name of its subscription"],
    ["a queue with a subscription", [broker, orders, "billing"], "a topic and the name of its subscription"],
    ["no destination", [broker, undefined], "a topic and the name of its subscription"],
    ["a name that is none", [broker, placed, "a b"], "is no name for a subscription"],
    ["an option that it does not know", [broker, orders, { who: "ann" }], 'no option "who"'],
    ["a negative patience", [broker, orders, { patienceMs: -1 }], "patienceMs"],
    ["an audit that is none", [broker, orders, { audit: "file" }], "audit"],
  ] as const)("%s", ([, given, message]) => expect(() => loose(...given)).toThrow(message));
});

describe("its verbs refuse", () => {
  type Dead = ReturnType<typeof deadLetters>;
  const archive = memoryArchive();
  const sloppy = <Options>(given: unknown): Options => given as Options;
  test.for<readonly [string, (dead: Dead) => Promise<unknown>, string]>([
    ["list", (dead) => dead.list(sloppy({ size: 5 })), 'no option "size"'],
    ["list", (dead) => dead.list({ limit: 1_001 }), "limit"],
    ["list", (dead) => dead.list({ cursor: "page 2" }), "cursor"],
    ["list", (dead) => dead.list({ bodyBytes: -1 }), "bodyBytes"],
    ["list", (dead) => dead.list({ filter: "reason is bad" }), "the filter cannot be read"],
    ["count", (dead) => dead.count("nonsense"), "the filter cannot be read"],
    ["groups", (dead) => dead.groups({ limit: 0 }), "limit"],
    ["replay", (dead) => dead.replay("", {}), 'use "all"'],
    ["replay", (dead) => dead.replay("all", sloppy({ dryRun: true })), 'no option "dryRun"'],
    ["replay", (dead) => dead.replay("all", { limit: 0 }), "limit"],
    ["replay", (dead) => dead.replay("all", { maxReplays: 0 }), "maxReplays"],
    ["replay", (dead) => dead.replay("all", { to: sloppy("orders") }), "takes a destination"],
    ["discard", (dead) => dead.discard("all", sloppy({})), "archive"],
    ["discard", (dead) => dead.discard("all", sloppy({ archive, keep: 1 })), 'no option "keep"'],
    [
      "resume",
      (dead) => dead.resume(sloppy({ run: "r" })),
      "is no plan of a replay or a discard: pass one that was stored as JSON",
    ],
    ["edit", (dead) => dead.edit("", () => 1), "the id of an entry"],
    ["edit", (dead) => dead.edit("x", sloppy({ n: 1 })), "takes a function, or a JSON patch"],
  ])("%s", async ([, call, message]) => {
    const yard = await Graveyard.open({ name: "memory", adapter: () => memory() });
    await expect(call(yard.dead)).rejects.toMatchObject({ code: "invalid", message: expect.stringContaining(message) });
    await yard.stop();
  });

  test("the plan of another source, and a run with options that make no sense", async () => {
    const yard = await Graveyard.open({ name: "memory", adapter: () => memory() });
    await yard.bury(burials(1));
    const { plan, run } = await yard.dead.replay("all");
    await expect(yard.dead.resume({ ...plan, source: "mails" })).rejects.toThrow(
      /dead letters of mails, .*: resume it on mails, or plan anew/,
    );
    for (const options of [{ rate: 0 }, { ramp: { first: 0 } }, { ramp: { steps: 3 } }, { speed: 1 }]) {
      await expect(yard.dead.replay("all", options as never)).rejects.toMatchObject({ code: "invalid" });
      await expect(yard.dead.resume(plan, options as never)).rejects.toMatchObject({ code: "invalid" });
    }
    for (const options of [{ speed: 1 }, { signal: {} }, { journal: {} }, { rate: 5 }]) {
      await expect(run(options as never)).rejects.toMatchObject({ code: "invalid" });
    }
    const { plan: discard } = await yard.dead.discard("all", { archive: memoryArchive() });
    const ramped = yard.dead.resume(discard, { archive: memoryArchive(), ramp: true });
    await expect(ramped).rejects.toMatchObject({ code: "invalid" });
    expect(yard.sentBack()).toEqual([]);
    await yard.stop();
  });

  test("everything, before the broker object is started", async () => {
    const dead = deadLetters(createBroker(memory(), { destinations: [orders] }) as Broker, orders);
    for (const call of [dead.list(), dead.count(), dead.count("id = x"), dead.groups(), dead.replay("all")]) {
      await expect(call).rejects.toMatchObject({ code: "closed" });
    }
  });
});

test("a rate is kept, and what was not used is not made up for", async () => {
  const time = new VirtualTime();
  const clock = new ProcessClock(time);
  const pacer = new Pacer(clock, 10);
  const passed: number[] = [];
  const go = async (count: number): Promise<void> => {
    for (let n = 0; n < count; n++) {
      await pacer.pass(undefined);
      passed.push(time.now);
    }
  };
  void go(3);
  await time.until(() => passed.length === 3, 10_000);
  expect(passed).toEqual([0, 100, 200]);
  let rested = false;
  time.schedule(() => {
    rested = true;
  }, 5_000);
  await time.until(() => rested, 10_000);
  void go(3);
  await time.until(() => passed.length === 6, 10_000);
  // But for a timer's lateness.
  expect(passed.slice(3)).toEqual([5_200, 5_280, 5_380]);
});
