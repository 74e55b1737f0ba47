import { AssignerProtocol } from "kafkajs";
import { expect, test } from "vitest";
import {
  decodeAssignment,
  decodeSubscription,
  encodeAssignment,
  encodeSubscription,
} from "../../../adapters/kafka/group/protocol.ts";

const SUBSCRIPTION = {
  topics: ["order.placed", "order.placed..billing"],
  rejoins: 3,
  generation: 12,
  held: [
    { topic: "order.placed", partition: 0 },
    { topic: "order.placed", partition: 7 },
  ],
  leaving: [{ topic: "order.placed..billing", partition: 1 }],
};

const ASSIGNMENT = {
  assigned: [
    { topic: "order.placed", partition: 0 },
    { topic: "order.placed..billing", partition: 1 },
  ],
  taken: [{ topic: "order.placed", partition: 7 }],
  awaited: 3,
  topics: [
    { topic: "order.placed", partitions: 8, problem: "" },
    { topic: "order.placed..billing", partitions: 0, problem: "UNKNOWN_TOPIC_OR_PARTITION" },
  ],
};

test("what a member says of itself is read as it was written", () => {
  expect(decodeSubscription(encodeSubscription(SUBSCRIPTION))).toEqual(SUBSCRIPTION);
});

test("what a member is told is read as it was written", () => {
  expect(decodeAssignment(encodeAssignment(ASSIGNMENT), SUBSCRIPTION.topics)).toEqual(ASSIGNMENT);
});

test.each([
  ["of another topic", [{ topic: "order.paid", partition: 0 }]],
  ["with a negative number", [{ topic: "order.placed", partition: -1 }]],
  [
    "that are there twice",
    [
      { topic: "order.placed", partition: 0 },
      { topic: "order.placed", partition: 0 },
    ],
  ],
])("partitions %s are not taken", (_, assigned) => {
  const bytes = encodeAssignment({ ...ASSIGNMENT, assigned });
  expect(() => decodeAssignment(bytes, SUBSCRIPTION.topics)).toThrow(RangeError);
});

test("other clients read the topics and the assigned partitions", () => {
  expect(AssignerProtocol.MemberMetadata.decode(encodeSubscription(SUBSCRIPTION))).toMatchObject({
    version: 0,
    topics: SUBSCRIPTION.topics,
  });
  expect(AssignerProtocol.MemberAssignment.decode(encodeAssignment(ASSIGNMENT))).toMatchObject({
    version: 0,
    assignment: { "order.placed": [0], "order.placed..billing": [1] },
  });
});

test("of a member that cannot be read nothing is known, wherever it breaks off", () => {
  const whole = encodeSubscription(SUBSCRIPTION);
  for (let length = 0; length < whole.length; length++) {
    expect(decodeSubscription(whole.subarray(0, length))).toMatchObject({ topics: [], held: [], leaving: [] });
  }
  const endless = Buffer.from([0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 1]);
  expect(decodeSubscription(endless).topics).toEqual([]);
});

test("a member that was left out is told nothing", () => {
  expect(decodeAssignment(Buffer.alloc(0), [])).toEqual({ assigned: [], taken: [], awaited: 0, topics: [] });
});

test("what a later version adds at the end is passed over", () => {
  const plain = encodeSubscription({ ...SUBSCRIPTION, topics: [] });
  // The envelope is a version, a number of topics and the length of the content.
  const content = Buffer.concat([plain.subarray(10), Buffer.from("more")]);
  const length = Buffer.alloc(4);
  length.writeInt32BE(content.length);
  const later = Buffer.concat([plain.subarray(0, 6), length, content]);
  expect(decodeSubscription(later)).toEqual({ ...SUBSCRIPTION, topics: [] });
});
