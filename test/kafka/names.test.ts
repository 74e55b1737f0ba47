import { describe, expect, test } from "vitest";
import { delaysTopic, groupName, physicalName, topicName, topicsOf } from "../../adapters/kafka/names.ts";
import type { Address } from "../../core/address.ts";

const ORDERS = { kind: "queue", name: "orders" } as const;
const BILLING = { kind: "subscription", topic: "order.placed", name: "billing" } as const;

test("a queue and a topic of one name are two Kafka topics, with delays of their own", () => {
  const placed = { kind: "topic", name: "orders" } as const;
  expect([ORDERS, placed].map(physicalName)).toEqual(["topic orders.queue", "topic orders"]);
  expect([ORDERS, placed].map(delaysTopic)).toEqual(["orders.queue.delays", "orders.delays"]);
  expect(groupName(ORDERS)).toBe("orders.queue");
  expect(topicName({ kind: "dead-letters", of: ORDERS })).toBe("orders.dlq");
});

test("a subscription is read from its topic and from one of its own", () => {
  expect(topicsOf(BILLING)).toEqual(["order.placed", "order.placed..billing"]);
  expect(topicsOf({ kind: "dead-letters", of: BILLING })).toEqual(["order.placed..billing.dlq"]);
  expect(groupName(BILLING)).toBe("order.placed..billing");
});

test("a quarantine log is named after the topic that holds the work", () => {
  const named = [ORDERS, BILLING].map((of) => physicalName({ kind: "quarantine", of }));
  expect(named).toEqual(["topic orders.queue.quarantine", "topic order.placed..billing.quarantine"]);
});

describe("refused", () => {
  test.each<[string, Address]>([
    ["a queue that would be the delays of another", { kind: "queue", name: "orders.delays" }],
    ["a topic likewise", { kind: "topic", name: "order.placed.delays" }],
    ["a topic that would be a queue", { kind: "topic", name: "orders.queue" }],
    ["a subscription that looks like delays", { kind: "subscription", topic: "order.placed", name: "delays" }],
    ["a subscription that looks like dead letters", { kind: "subscription", topic: "order.placed", name: "dlq" }],
    ["a subscription that looks like a log", { kind: "subscription", topic: "order.placed", name: "quarantine" }],
    ["the quarantine log of such a one", { kind: "quarantine", of: { kind: "queue", name: "orders.delays" } }],
    ["a name over Kafka's limit", { kind: "topic", name: "x".repeat(250) }],
  ])("%s", (_what, address) => {
    expect(() => physicalName(address)).toThrowError(expect.objectContaining({ code: "invalid" }));
  });
});
