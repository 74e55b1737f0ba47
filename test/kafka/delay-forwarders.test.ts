import { expect, test } from "vitest";
import { DelayForwarders } from "../../adapters/kafka/receiver.ts";
import type { Source } from "../../core/address.ts";
import { systemClock, systemRandom } from "../../core/clock.ts";

const ORDERS: Source = { kind: "queue", name: "orders" };
const BILLING: Source = { kind: "subscription", topic: "placed", name: "billing" };
const MAIL: Source = { kind: "subscription", topic: "placed", name: "mail" };

/** DelayForwarders over consumers that read nothing, and which of their topics are open. */
function forwarders() {
  const open: string[] = [];
  const subject = new DelayForwarders({
    producer: { send: () => {} },
    clock: systemClock(),
    random: systemRandom(),
    notice: () => {},
    passesUnreadable: true,
    references: async () => new Map(),
    openConsumer: async ({ topics: [topic = ""], group }) => {
      expect(group).toBe(topic);
      open.push(topic);
      return {
        leaseMs: undefined,
        prefetch: () => {},
        settle: async () => [],
        extend: async () => [],
        keep: () => undefined,
        close: async () => void open.splice(open.indexOf(topic), 1),
      };
    },
  });
  return { subject, open: () => [...open].sort() };
}

test("one destination has one, however many receive from it, until the last has ended", async () => {
  const { subject, open } = forwarders();
  const [first, second] = [subject.run(ORDERS), subject.run(ORDERS)];
  expect(open()).toEqual(["orders.queue.delays"]);
  await first();
  await first();
  expect(open()).toEqual(["orders.queue.delays"]);
  await second();
  expect(open()).toEqual([]);
  const again = subject.run(ORDERS);
  expect(open()).toEqual(["orders.queue.delays"]);
  await again();
});

test("subscriptions have one for their topic together, and one each", async () => {
  const { subject, open } = forwarders();
  const [billing, mail] = [subject.run(BILLING), subject.run(MAIL)];
  expect(open()).toEqual(["placed..billing.delays", "placed..mail.delays", "placed.delays"]);
  await billing();
  expect(open()).toEqual(["placed..mail.delays", "placed.delays"]);
  await mail();
  expect(open()).toEqual([]);
});

test("dead letters have none", async () => {
  const { subject, open } = forwarders();
  const end = subject.run({ kind: "dead-letters", of: BILLING });
  expect(open()).toEqual([]);
  await end();
});
