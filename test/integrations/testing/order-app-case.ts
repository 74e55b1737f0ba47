import assert from "node:assert/strict";
import type { TestKit } from "../../../integrations/testing/index.ts";
import { orderApp, orders, placed, receipts } from "./order-app.ts";

/**
 * A test of the order application that knows neither its runner nor its broker: two failures, a negative order, a send
 * that goes unanswered.
 */
export async function testOrderApp<Native>(kit: TestKit<Native>, firstRetryMs: number): Promise<void> {
  const { broker } = kit;
  const attempts: string[] = [];
  orderApp(
    broker,
    {
      charge(orderId, attempt) {
        attempts.push(`${orderId} ${attempt}`);
        if (orderId === "o-1" && attempt < 3) throw new Error("the bank is closed");
      },
    },
    firstRetryMs,
  );
  await broker.start();
  await broker.send(orders, { id: "o-1", total: 12 }, { id: "m-1" });
  await broker.send(orders, { id: "o-2", total: -1 }, { id: "m-2", headers: { "x-from": "shop" } });
  await kit.idle();

  assert.deepEqual(attempts, ["o-1 1", "o-1 2", "o-1 3"]);
  const [first, second, ...none] = kit.sent(orders);
  assert.deepEqual(none, []);
  assert.deepEqual(first?.body, { id: "o-1", total: 12 });
  assert.deepEqual([second?.id, second?.key, second?.headers], ["m-2", "o-2", { "x-from": "shop" }]);
  assert.deepEqual(
    kit.consumed(orders).map(({ id, body, attempt }) => [id, body.total, attempt]),
    [["m-1", 12, 3]],
  );
  const [event] = kit.sent(placed);
  assert.deepEqual([event?.body, event?.headers], [{ orderId: "o-1" }, { "x-source": "orders" }]);
  for (const subscription of ["billing", "audit"]) {
    assert.deepEqual(
      kit.consumed(placed, subscription).map(({ id, body }) => [id, body.orderId]),
      [[event?.id, "o-1"]],
    );
  }
  assert.deepEqual(
    kit.sent(receipts).map(({ id, body }) => [id, body.orderId]),
    [[`receipt of ${event?.id}`, "o-1"]],
  );
  assert.deepEqual(kit.consumed(receipts), []);
  const [dead, ...others] = kit.deadLetters(orders);
  assert.deepEqual(others, []);
  assert.deepEqual([dead?.id, dead?.reason, dead?.attempts], ["m-2", "rejected", 1]);
  assert.deepEqual(dead?.body, { id: "o-2", total: -1 });
  assert.throws(() => kit.expectNoDeadLetters(), /message m-2, rejected after 1 attempt/);
  kit.expectNoDeadLetters(placed, "billing");

  kit.clear();
  kit.failNext({ sending: orders, with: "unconfirmed", stored: true });
  await assert.rejects(broker.send(orders, { id: "o-3", total: 1 }, { id: "m-3" }), { code: "unconfirmed" });
  await kit.idle();
  assert.deepEqual(
    kit.consumed(orders).map(({ id }) => id),
    ["m-3"],
  );
  kit.expectNoDeadLetters();
}
