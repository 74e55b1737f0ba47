// What must compile, and what must not. Checked by `npm run typecheck`; nothing here is run.
import {
  type Broker,
  type Consumer,
  createBroker,
  type Publisher,
  queue,
  type Receipt,
  subscription,
  topic,
} from "anybroker";
import { memory } from "anybroker/memory";
import { z } from "zod";
import { check, type Same } from "./assertions.ts";

interface Order {
  readonly id: string;
  readonly total: number;
}

const orders = queue<Order>("orders");
const placed = topic<{ readonly orderId: string }>("order.placed", { routingKey: (event) => event.orderId });
const broker = createBroker(memory());

/** Work is not published, events are not sent, and each is consumed in its own way. */
export function workAndEventsAreApart(): void {
  broker.send(orders, { id: "o-1", total: 12 });
  broker.publish(placed, { orderId: "o-1" });
  broker.consume(orders, () => {});
  broker.subscribe(placed, "billing", () => {});
  // @ts-expect-error a topic takes no work
  broker.send(placed, { orderId: "o-1" });
  // @ts-expect-error a queue takes no events
  broker.publish(orders, { id: "o-1", total: 12 });
  // @ts-expect-error a topic is subscribed to
  broker.consume(placed, () => {});
  // @ts-expect-error a queue has no subscriptions
  broker.subscribe(orders, "billing", () => {});
  // @ts-expect-error a subscription has a name
  broker.subscribe(placed, () => {});
  // @ts-expect-error a queue has no subscriptions
  subscription(orders, "billing");
  // @ts-expect-error the depth of which subscription?
  broker.depth(placed);
  // @ts-expect-error a queue has no subscription to ask for
  broker.depth(orders, "billing");
}

/** Bodies are those of the destination. */
export function bodiesAreChecked(): void {
  check<Same<ReturnType<typeof broker.send>, Promise<Receipt>>>();
  // @ts-expect-error a property is missing
  broker.send(orders, { id: "o-1" });
  // @ts-expect-error a property is of another type
  broker.send(orders, { id: "o-1", total: "12" });
  // @ts-expect-error a property that no order has
  broker.send(orders, { id: "o-1", total: 12, colour: "red" });
  // @ts-expect-error a property that no order has
  broker.sendMany(orders, [{ body: { id: "o-1", total: 12, colour: "red" } }]);
  // @ts-expect-error the body is missing
  broker.send(orders);
  // @ts-expect-error an event of another topic
  broker.publish(placed, { id: "o-1" });
  broker.sendMany(orders, [{ body: { id: "o-1", total: 12 }, options: { delayMs: 5 } }]);
  // @ts-expect-error one of many is wrong
  broker.sendMany(orders, [{ body: { id: "o-1", total: 12 } }, { body: { id: "o-2" } }]);
  // @ts-expect-error the key is made of what the body has
  queue<Order>("orders", { key: (order) => order.number });
  // @ts-expect-error a key is a text
  queue<Order>("orders", { key: (order) => order.total });
}

/** Names of options are known. */
export function optionsAreChecked(): void {
  // @ts-expect-error it is called delayMs
  broker.send(orders, { id: "o-1", total: 12 }, { delay: 5 });
  // @ts-expect-error queues have no routing keys
  broker.send(orders, { id: "o-1", total: 12 }, { routingKey: "geo.us" });
  // @ts-expect-error topics have no priorities
  broker.publish(placed, { orderId: "o-1" }, { priority: 1 });
  // @ts-expect-error it is called concurrency
  broker.consume(orders, () => {}, { prefetch: 5 });
  // @ts-expect-error queues have no filter
  broker.consume(orders, () => {}, { filter: "geo.#" });
  // @ts-expect-error it is called attempts
  broker.consume(orders, () => {}, { retry: { retries: 5 } });
  // @ts-expect-error it is a text or a date
  broker.subscribe(placed, "billing", () => {}, { from: 5 });
  // @ts-expect-error there is no such mode
  createBroker(memory(), { declare: "update" });
  // @ts-expect-error there is no such capability
  createBroker(memory(), { require: ["speed"] });
  // @ts-expect-error only topics have routing keys
  queue<Order>("orders", { routingKey: () => "geo" });
  // @ts-expect-error only queues have priorities
  topic<Order>("orders", { priorities: 3 });
  // @ts-expect-error a header is a text
  broker.send(orders, { id: "o-1", total: 12 }, { headers: { attempt: 5 } });
}

const Signup = z.object({ email: z.string(), at: z.coerce.date<string>(), plan: z.string().default("free") });

/** The schema's input is sent, its output is handled. */
export function schemasHaveTwoSides(): void {
  const signups = queue("signups", { schema: Signup, key: (signup) => signup.email });
  const signed = topic("signed-up", { schema: Signup });
  broker.send(signups, { email: "a@example.com", at: "2026-01-01" });
  // @ts-expect-error the input has a text, the output a date
  broker.send(signups, { email: "a@example.com", at: new Date() });
  broker.consume(signups, (signup) => {
    check<Same<typeof signup.at, Date>>();
    check<Same<typeof signup.plan, string>>();
  });
  broker.subscribe(signed, "mail", (signup) => {
    check<Same<typeof signup.at, Date>>();
  });
  // @ts-expect-error the handler asks for the input
  broker.consume(signups, (signup: { email: string; at: string }) => void signup);
  // @ts-expect-error a type parameter beside a schema is a second truth
  queue<Order>("signups", { schema: Signup });
  // @ts-expect-error not a schema
  queue("signups", { schema: { parse: () => ({}) } });
}

/** A destination made without a body's type takes anything and promises nothing. */
export function bodiesWithoutAType(): void {
  broker.consume(queue("anything"), (body) => {
    check<Same<typeof body, unknown>>();
  });
}

/** A service that only sends asks for no more than that. */
export function publishersAreBrokers(given: Broker): Publisher {
  const consumer: Consumer = given.consume(orders, () => {});
  consumer.pause();
  return given;
}
