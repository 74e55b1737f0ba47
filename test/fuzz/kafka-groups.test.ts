// Members, leaders and tools that write into a group whatever they like.

import fc from "fast-check";
import { expect, test } from "vitest";
import { decodeProgress, encodeProgress, trimmableTo } from "../../adapters/kafka/consuming/progress.ts";
import { readReference } from "../../adapters/kafka/dead-letters/references.ts";
import { assign } from "../../adapters/kafka/group/assignment.ts";
import {
  decodeAssignment,
  decodeSubscription,
  encodeAssignment,
  encodeSubscription,
} from "../../adapters/kafka/group/protocol.ts";
import { TopicWatch } from "../../adapters/kafka/group/topics.ts";
import { partitionKey } from "../../adapters/kafka/names.ts";
import type { TopicMetadata } from "../../adapters/kafka/port.ts";
import { PausableClock } from "../kafka/group/pausable-clock.ts";
import { identity, topicId } from "../kafka/topic-ids.ts";
import { VirtualTime } from "../simulation/virtual-time.ts";
import { fuzzing } from "./runs.ts";

const TOPICS: Readonly<Record<string, number>> = { a: 3, b: 1 };

const topic = fc.constantFrom("a", "b", "gone", "");
const partition = fc.oneof(fc.nat(4), fc.constantFrom(-1, -(2 ** 31), 2 ** 31 - 1, 20_000));
const partitions = fc.array(fc.record({ topic, partition }), { maxLength: 6 });

const subscription = fc
  .record({
    topics: fc.array(topic, { maxLength: 4 }),
    rejoins: fc.integer(),
    generation: fc.integer({ min: -1, max: 3 }),
    held: partitions,
    leaving: partitions,
  })
  .map(encodeSubscription);

const assignment = fc
  .record({
    assigned: partitions,
    taken: partitions,
    awaited: fc.integer(),
    topics: fc.array(fc.record({ topic, partitions: fc.integer(), problem: fc.string() }), { maxLength: 3 }),
  })
  .map(encodeAssignment);

/** What was well before it was changed here and there, or cut off; or was never well. */
function odd(right: fc.Arbitrary<Buffer>): fc.Arbitrary<Buffer> {
  const edits = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 });
  const edited = fc.tuple(right, edits, fc.nat(30)).map(([bytes, changes, cut]) => {
    const copy = Buffer.from(bytes.subarray(0, bytes.length - (cut > 20 ? cut - 20 : 0)));
    for (const [at, value] of changes) if (copy.length > 0) copy[at % copy.length] = value;
    return copy;
  });
  return fc.oneof(
    edited,
    fc.uint8Array({ maxLength: 80 }).map((bytes) => Buffer.from(bytes)),
  );
}

test("whatever members say, the leader gives each partition to one of them at most", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(odd(subscription), { maxLength: 5 }), async (said) => {
      const known = (name: string): TopicMetadata => ({
        topic: name,
        id: topicId(name),
        error: TOPICS[name] === undefined ? "UNKNOWN_TOPIC_OR_PARTITION" : undefined,
        partitions: Array.from({ length: TOPICS[name] ?? 0 }, (_, index) => {
          return { partition: index, error: undefined, leader: 1, replicas: 1 };
        }),
      });
      const watch = new TopicWatch(new PausableClock(new VirtualTime()), async (names) => names.map(known), {
        changed: () => undefined,
        unchanged: () => undefined,
      });
      const members = said.map((metadata, index) => ({ memberId: `m${index}`, metadata }));
      const outcome = { error: undefined, generation: 1, leader: "m0", memberId: "m0", members };
      const divided = await watch.divide(outcome);
      expect(divided.map(({ memberId }) => memberId).sort()).toEqual(members.map(({ memberId }) => memberId).sort());
      const given = divided.flatMap((one, index) => {
        const { topics } = decodeSubscription(
          members.find(({ memberId }) => memberId === one.memberId)?.metadata ?? Buffer.alloc(0),
        );
        expect(index).toBeLessThan(members.length);
        return decodeAssignment(one.assignment, topics).assigned.map(partitionKey);
      });
      expect(new Set(given).size).toBe(given.length);
    }),
    fuzzing(),
  );
});

test("partitions that are claimed in any way are divided", () => {
  const claimant = odd(subscription).map(decodeSubscription);
  fc.assert(
    fc.property(fc.array(claimant, { maxLength: 6 }), fc.nat(20), (claimants, count) => {
      const members = claimants.map((one, index) => ({ ...one, memberId: `m${index}` }));
      const views = ["a", "b"].map((name) => ({ topic: name, partitions: count, problem: "" }));
      const result = assign(members, views);
      for (const { assigned } of result.values()) {
        for (const one of assigned) expect(one.partition).toBeLessThan(count);
      }
    }),
    fuzzing(),
  );
});

test("an assignment of anybody is read, or refused as a whole", () => {
  fc.assert(
    fc.property(odd(assignment), (bytes) => {
      try {
        const { assigned } = decodeAssignment(bytes, ["a", "b"]);
        for (const one of assigned) expect(one.partition).toBeGreaterThanOrEqual(0);
      } catch (error) {
        expect(error).toBeInstanceOf(RangeError);
      }
    }),
    fuzzing(),
  );
});

test("whatever stands beside an offset, progress is read from it", () => {
  const right = fc
    .record({ offset: fc.nat(1_000), watermark: fc.nat(2_000), crashes: fc.array(fc.nat(2_000), { maxLength: 3 }) })
    .map(({ offset, watermark, crashes }) => {
      const { progress } = decodeProgress({ offset, metadata: "" });
      return encodeProgress({ ...progress, watermark, crashes }, identity("a"));
    });
  const metadata = fc.oneof(
    odd(right.map((said) => Buffer.from(said))).map((bytes) => bytes.toString("latin1")),
    fc.string(),
  );
  fc.assert(
    fc.property(metadata, fc.oneof(fc.nat(1_000), fc.constantFrom(-1, 2 ** 53 - 1)), (said, offset) => {
      const { progress } = decodeProgress({ offset, metadata: said });
      expect(progress.offset).toBe(offset);
      expect([...progress.finished].every((one) => one >= offset)).toBe(true);
      expect(trimmableTo(progress)).toBeLessThanOrEqual(offset);
    }),
    fuzzing(),
  );
});

test("whatever a dead letter says, it refers to records or to none", () => {
  const right = fc.json().map((said) => Buffer.from(`{"refersTo":${said}}`));
  fc.assert(
    fc.property(odd(right), (body) => {
      const reference = readReference(body);
      if (reference !== undefined) expect(typeof reference.topic).toBe("string");
    }),
    fuzzing(),
  );
});
