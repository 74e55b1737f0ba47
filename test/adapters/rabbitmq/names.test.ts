import fc from "fast-check";
import { expect, test } from "vitest";
import { physicalName } from "../../../adapters/rabbitmq/names.ts";
import type { Address, WorkAddress } from "../../../core/address.ts";

const name = fc.stringMatching(/^[a-z0-9][a-z0-9._-]{0,8}$/).filter((text) => !/\.(dlq|suspects)$/.test(text));
const work: fc.Arbitrary<WorkAddress> = fc.oneof(
  name.map((text): WorkAddress => ({ kind: "queue", name: text })),
  fc.tuple(name, name).map(([topic, text]): WorkAddress => ({ kind: "subscription", topic, name: text })),
);

test("a queue and a topic of one name are two things", () => {
  const names = (["queue", "topic"] as const).map((kind) => physicalName({ kind, name: "orders" }));
  expect(names).toEqual(["queue orders", "exchange orders"]);
});

test("a queue and a subscription that share a physical name are told to collide", () => {
  const queue: Address = { kind: "queue", name: "order.placed.billing" };
  const subscription: Address = { kind: "subscription", topic: "order.placed", name: "billing" };
  expect(physicalName(queue)).toBe(physicalName(subscription));
});

test("what is derived from a destination never collides with another destination", () => {
  fc.assert(
    fc.property(work, work, (one, other) => {
      const derived = physicalName({ kind: "dead-letters", of: one });
      expect(derived).not.toBe(physicalName(other));
      expect(derived).not.toBe(physicalName({ kind: "suspects", of: other }));
    }),
  );
});

test.each(["amq.gen", "anybroker.delay.3"])("%s is refused, being reserved", (reserved) => {
  expect(() => physicalName({ kind: "topic", name: reserved })).toThrowError(
    expect.objectContaining({ code: "invalid" }),
  );
});
