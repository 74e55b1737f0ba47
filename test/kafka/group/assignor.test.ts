import fc from "fast-check";
import { expect, test } from "vitest";
import { assign, type Claimant } from "../../../adapters/kafka/group/assignment.ts";
import type { Assignment, TopicView } from "../../../adapters/kafka/group/protocol.ts";
import { partitionKey } from "../../../adapters/kafka/names.ts";

import type { TopicPartition } from "../../../adapters/kafka/port.ts";

type Result = ReadonlyMap<string, Assignment>;

function view(counts: Readonly<Record<string, number>>): TopicView[] {
  return Object.entries(counts).map(([topic, partitions]) => ({ topic, partitions, problem: "" }));
}

function claimant(memberId: string, topics: readonly string[], more: Partial<Claimant> = {}): Claimant {
  return { memberId, topics, rejoins: 0, generation: 1, held: [], leaving: [], ...more };
}

function part(key: string): TopicPartition {
  const [topic = "", partition] = key.split("/");
  return { topic, partition: Number(partition) };
}

function keys(result: Result, memberId: string): string[] {
  return (result.get(memberId)?.assigned ?? []).map(partitionKey).sort();
}

/** The members as they join again, with what they were given. */
function after(claimants: readonly Claimant[], result: Result): Claimant[] {
  return claimants.map((one) => ({
    ...one,
    held: result.get(one.memberId)?.assigned ?? [],
    leaving: [],
    generation: 2,
  }));
}

/** Rounds until nothing has to be given up any more. */
function settle(claimants: readonly Claimant[], topics: readonly TopicView[]): Claimant[] {
  let now = [...claimants];
  for (let round = 0; round < 4; round++) now = after(now, assign(now, topics));
  return now;
}

function spread(counts: readonly number[]): number {
  return Math.max(...counts) - Math.min(...counts);
}

const groups = fc.record({
  counts: fc.dictionary(fc.constantFrom("a", "b", "c"), fc.integer({ min: 1, max: 12 }), { minKeys: 1 }),
  before: fc.integer({ min: 1, max: 8 }),
  leaving: fc.integer({ min: 0, max: 8 }),
  joining: fc.integer({ min: 0, max: 4 }),
});

function members(from: number, count: number, topics: readonly string[]): Claimant[] {
  return Array.from({ length: count }, (_, index) => claimant(`m${from + index}`, topics));
}

test("every partition has one member, and none has two more than another, of each topic and in all", () => {
  fc.assert(
    fc.property(groups, ({ counts, before, leaving, joining }) => {
      const topics = Object.keys(counts);
      const first = settle(members(0, before, topics), view(counts));
      const left = first.slice(Math.min(leaving, before - 1));
      const last = settle([...left, ...members(before, joining, topics)], view(counts));
      const all = last.flatMap(({ held }) => held.map(partitionKey));
      expect(new Set(all).size).toBe(all.length);
      expect(all.length).toBe(Object.values(counts).reduce((one, other) => one + other, 0));
      expect(spread(last.map(({ held }) => held.length))).toBeLessThanOrEqual(1);
      for (const topic of topics) {
        expect(spread(last.map(({ held }) => held.filter((one) => one.topic === topic).length))).toBeLessThanOrEqual(1);
      }
    }),
  );
});

test("what is balanced stays as it is", () => {
  fc.assert(
    fc.property(groups, ({ counts, before }) => {
      const settled = settle(members(0, before, Object.keys(counts)), view(counts));
      const again = assign(settled, view(counts));
      for (const { memberId, held } of settled) expect(keys(again, memberId)).toEqual(held.map(partitionKey).sort());
    }),
  );
});

test("of one topic, leaving moves nothing between those who stay, and joining moves only to those who join", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 30 }), groups, (partitions, { before, leaving, joining }) => {
      const topics = view({ orders: partitions });
      const first = settle(members(0, before, ["orders"]), topics);
      const left = first.slice(Math.min(leaving, before - 1));
      const alone = assign(left, topics);
      for (const { memberId, held } of left)
        expect(keys(alone, memberId)).toEqual(expect.arrayContaining(held.map(partitionKey)));
      const settled = settle(left, topics);
      const joined = settle([...settled, ...members(before, joining, ["orders"])], topics);
      for (const { memberId, held } of settled) {
        const now = joined.find((one) => one.memberId === memberId)?.held ?? [];
        expect(held.map(partitionKey)).toEqual(expect.arrayContaining(now.map(partitionKey)));
      }
    }),
  );
});

test("nobody is given what another still holds", () => {
  fc.assert(
    fc.property(groups, ({ counts, before, joining }) => {
      const topics = Object.keys(counts);
      const settled = settle(members(0, before, topics), view(counts));
      const round = assign([...settled, ...members(before, joining, topics)], view(counts));
      const owners = new Map(settled.flatMap(({ memberId, held }) => held.map((one) => [partitionKey(one), memberId])));
      for (const [memberId, { assigned }] of round) {
        for (const one of assigned) expect(owners.get(partitionKey(one)) ?? memberId).toBe(memberId);
      }
    }),
  );
});

test("of what a member has too many, that goes on leaving which is leaving already", () => {
  const held = ["orders/2", "orders/3"].map(part);
  const leaving = ["orders/0", "orders/1"].map(part);
  const result = assign([claimant("a", ["orders"], { held, leaving }), claimant("b", ["orders"])], view({ orders: 4 }));
  expect(keys(result, "a")).toEqual(["orders/2", "orders/3"]);
  expect(keys(result, "b")).toEqual([]);
});

test("of two who claim a partition the one with the later generation has it, and the other is told so", () => {
  const held = [part("orders/0")];
  const late = claimant("b", ["orders"], { held, generation: 7 });
  const early = claimant("a", ["orders"], { held, generation: 6 });
  for (const order of [
    [early, late],
    [late, early],
  ]) {
    const result = assign(order, view({ orders: 1 }));
    expect(keys(result, "b")).toEqual(["orders/0"]);
    expect(result.get("b")?.taken).toEqual([]);
    expect(result.get("a")).toMatchObject({ assigned: [], taken: held });
  }
});

test("two who claim a partition in the same generation both give it up before anybody gets it", () => {
  const held = [part("orders/0")];
  const result = assign(
    ["a", "b", "c"].map((memberId) => claimant(memberId, ["orders"], { held: memberId === "c" ? [] : held })),
    view({ orders: 1 }),
  );
  for (const memberId of ["a", "b"]) expect(result.get(memberId)).toMatchObject({ assigned: [], taken: held });
  expect(keys(result, "c")).toEqual([]);
});

test("a topic goes to those who read it, and what is held of one that is gone is taken", () => {
  const held = ["gone/0", "other/1"].map(part);
  const result = assign(
    [claimant("a", ["orders", "other", "gone"], { held }), claimant("b", ["orders"])],
    [...view({ orders: 2, other: 2 }), { topic: "gone", partitions: 0, problem: "UNKNOWN_TOPIC_OR_PARTITION" }],
  );
  expect(keys(result, "a")).toEqual(expect.arrayContaining(["other/0", "other/1"]));
  expect([...keys(result, "a"), ...keys(result, "b")].sort()).toEqual(["orders/0", "orders/1", "other/0", "other/1"]);
  expect(result.get("a")?.taken).toEqual([part("gone/0")]);
});

/** A quadratic assignment of these would take longer than any test may. */
const VERY_MANY = 200_000;
const all = (topic: string): TopicPartition[] =>
  Array.from({ length: VERY_MANY }, (_, partition) => ({ topic, partition }));

test.each([
  ["held by one", { held: all("a") }],
  ["given up by one", { leaving: all("a") }],
])("very many partitions, %s", (_, more) => {
  const result = assign([claimant("m0", ["a"], more)], view({ a: VERY_MANY }));
  expect(result.get("m0")?.assigned).toHaveLength(VERY_MANY);
});

test("very many partitions and members, and very many topics", () => {
  const many = assign(members(0, 1_000, ["a"]), view({ a: VERY_MANY }));
  expect(new Set([...many.values()].map(({ assigned }) => assigned.length))).toEqual(new Set([200]));
  const topics = Array.from({ length: 50_000 }, (_, index) => `t${index}`);
  const views = topics.map((topic) => ({ topic, partitions: 2, problem: "" }));
  const each = assign(
    topics.map((topic, index) => claimant(`m${index}`, [topic])),
    views,
  );
  // Nobody is told of what others read.
  expect(each.get("m7")).toMatchObject({ assigned: [part("t7/0"), part("t7/1")], topics: [{ topic: "t7" }] });
});

test("a topic that is named twice by a member is divided once", () => {
  const result = assign([claimant("m0", ["a", "a"]), claimant("m1", ["a"])], view({ a: 2 }));
  expect([...keys(result, "m0"), ...keys(result, "m1")].sort()).toEqual(["a/0", "a/1"]);
});
