import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { delaysTopic, physicalName, topicName, topicsOf } from "../../adapters/kafka/names.ts";
import type { Address, WorkAddress } from "../../core/address.ts";

const ENDINGS = /\.(dlq|suspects|delays)$/;
const name = fc.stringMatching(/^[a-z0-9][a-z0-9._-]{0,8}$/).filter((text) => !ENDINGS.test(`.${text}`));
const work: fc.Arbitrary<WorkAddress> = fc.oneof(
  name.map((text): WorkAddress => ({ kind: "queue", name: text })),
  fc.tuple(name, name).map(([topic, text]): WorkAddress => ({ kind: "subscription", topic, name: text })),
);

test("a queue and a topic of one name are told to collide, for both are Kafka topics", () => {
  const names = (["queue", "topic"] as const).map((kind) => physicalName({ kind, name: "orders" }));
  expect(names).toEqual(["topic orders", "topic orders"]);
});

test("a subscription is read from its topic and from one of its own", () => {
  const billing = { kind: "subscription", topic: "order.placed", name: "billing" } as const;
  expect(topicsOf(billing)).toEqual(["order.placed", "order.placed.billing"]);
  expect(topicsOf({ kind: "suspects", of: billing })).toEqual(["order.placed.billing.suspects"]);
});

test("what is derived from a destination never collides with another destination", () => {
  fc.assert(
    fc.property(work, work, (one, other) => {
      const derived = [
        topicName({ kind: "dead-letters", of: one }),
        topicName({ kind: "suspects", of: one }),
        delaysTopic(one),
      ];
      expect(new Set(derived).size).toBe(3);
      expect(derived).not.toContain(topicName(other));
      expect(() => physicalName(other)).not.toThrow();
    }),
  );
});

describe("refused", () => {
  test.each<[string, Address]>([
    ["a queue that would be the delays of another", { kind: "queue", name: "orders.delays" }],
    ["a topic likewise", { kind: "topic", name: "order.placed.delays" }],
    ["a subscription likewise", { kind: "subscription", topic: "order.placed", name: "delays" }],
    ["a subscription that looks like dead letters", { kind: "subscription", topic: "order.placed", name: "dlq" }],
    ["the suspects of such a one", { kind: "suspects", of: { kind: "queue", name: "orders.delays" } }],
    ["a name over Kafka's limit", { kind: "topic", name: "x".repeat(250) }],
  ])("%s", (_what, address) => {
    expect(() => physicalName(address)).toThrowError(expect.objectContaining({ code: "invalid" }));
  });
});
