import { deadLetters } from "anybroker/dead-letters";
import { expect, test } from "vitest";
import { createBroker } from "../../../../core/create-broker.ts";
import { deadLetter } from "../../../../core/delivery.ts";
import { topic } from "../../../../core/destination.ts";
import { freshName, type Grounds, type Order, until } from "../graveyard.ts";

/** Subscriptions. */
export function topicCases(grounds: () => Grounds): void {
  test("are sent back and handled, though the filter that let them in has changed", async (context) => {
    const { withoutTopics } = grounds();
    if (withoutTopics !== undefined) context.skip(`NOT RUN: ${withoutTopics}`);
    const placed = topic<Order>(freshName(grounds(), "placed"));
    const events = ["order.paid", "order.created", "order.sent"];
    const failing = createBroker(grounds().adapter());
    const before = failing.subscribe(placed, "billing", () => deadLetter("down"), { filter: "order.*" });
    await failing.start();
    for (const routingKey of events) await failing.publish(placed, { n: 1 }, { id: routingKey, routingKey });
    await until("their deaths", () => before.status().deadLettered === events.length);
    await failing.stop({ timeoutMs: 5_000 });
    const handled: string[] = [];
    const broker = createBroker(grounds().adapter());
    broker.subscribe(placed, "billing", (_, { id }) => void handled.push(id), { filter: "*.created" });
    await broker.start();
    const { run } = await deadLetters(broker, placed, "billing").replay("all");
    await expect(run()).resolves.toMatchObject({ done: events.length });
    await until("all of them", () => handled.length >= events.length);
    expect(handled.toSorted()).toEqual(events.toSorted());
    await broker.stop({ timeoutMs: 5_000 });
  });

  test("are sent back to it, and to no other", async (context) => {
    const { withoutTopics } = grounds();
    if (withoutTopics !== undefined) context.skip(`not applicable: ${withoutTopics}`);
    const placed = topic<Order>(freshName(grounds(), "placed"));
    const broker = createBroker(grounds().adapter());
    const handled = { billing: [] as string[], audit: [] as string[] };
    let broken = true;
    const billing = broker.subscribe(
      placed,
      "billing",
      (_, { id, routingKey }) => {
        if (broken) throw new Error("down");
        handled.billing.push(`${id} ${routingKey}`);
      },
      { retry: { attempts: 1 } },
    );
    broker.subscribe(placed, "audit", (_, { id }) => void handled.audit.push(id));
    await broker.start();
    await broker.publish(placed, { n: 1 }, { id: "event", routingKey: "eu.de" });
    await until("its death", () => billing.status().deadLettered === 1 && handled.audit.length === 1);
    const dead = deadLetters(broker, placed, "billing");
    expect(dead.source).toBe(`${placed.name}..billing`);
    const { entries } = await dead.list();
    expect(entries).toMatchObject([{ messageId: "event", routingKey: "eu.de", destination: dead.source }]);
    await expect(deadLetters(broker, placed, "audit").list()).resolves.toMatchObject({ entries: [] });
    broken = false;
    const { plan, run } = await dead.replay("all");
    expect(plan.destinations).toEqual([{ destination: dead.source, count: 1 }]);
    await expect(run()).resolves.toMatchObject({ done: 1 });
    await until("the event", () => handled.billing.length === 1);
    expect(handled).toEqual({ billing: ["event eu.de"], audit: ["event"] });
    await broker.stop({ timeoutMs: 5_000 });
  });
}
