import { expect, test } from "vitest";
import { physicalName } from "../../../adapters/rabbitmq/names.ts";

test("a queue and a topic of one name are two things", () => {
  const names = (["queue", "topic"] as const).map((kind) => physicalName({ kind, name: "orders" }));
  expect(names).toEqual(["queue orders", "exchange orders"]);
});

test("two dots stand between a topic and its subscription, so no queue has its name", () => {
  const subscription = { kind: "subscription", topic: "order.placed", name: "billing" } as const;
  expect(physicalName(subscription)).toBe("queue order.placed..billing");
  expect(physicalName({ kind: "dead-letters", of: subscription })).toBe("queue order.placed..billing.dlq");
});

test.each(["amq.gen", "anybroker.delay.3"])("%s is refused, being reserved", (reserved) => {
  expect(() => physicalName({ kind: "topic", name: reserved })).toThrowError(
    expect.objectContaining({ code: "invalid" }),
  );
});
