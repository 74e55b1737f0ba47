import { type Broker, type Publisher, queue } from "anybroker";
import { BROKER, bindHandler, messagingModule, PUBLISHER, startMessaging } from "anybroker/inversify";
import { type TestKit, testBroker } from "anybroker/testing";
import { Container } from "inversify";
import { afterEach, beforeEach, expect, test } from "vitest";
import { inProcess, type Order, orders } from "./orders.ts";

const receipts = queue<Order>("receipts");

class Billing {
  readonly #publisher: Publisher;
  constructor(publisher: Publisher) {
    this.#publisher = publisher;
  }
  async handle(order: Order): Promise<void> {
    await this.#publisher.send(receipts, order);
  }
}

/** The application, on any broker. */
function application(broker: Broker): Container {
  const container = new Container();
  container.bind(Billing).toResolvedValue((publisher: Publisher) => new Billing(publisher), [PUBLISHER]);
  bindHandler(container, orders, Billing);
  container.load(messagingModule({ broker }));
  return container;
}

let kit: TestKit;

beforeEach(() => {
  kit = testBroker({ destinations: [receipts] });
});

afterEach(() => kit.close());

test("an application is tested by the testing kit: idle, recorded, failing, in virtual time", async () => {
  const container = application(kit.broker);
  await startMessaging(container);
  const orderIds = Array.from({ length: 200 }, (_, index) => `${index}`);
  kit.failNext({ handling: orders, with: new Error("out of memory"), times: 3 });
  for (const id of orderIds) await container.get(PUBLISHER).send(orders, { id });
  await kit.idle();
  expect(kit.consumed(orders)).toHaveLength(orderIds.length);
  const sent = kit.sent(receipts).map(({ body }) => (body as Order).id);
  expect(sent.toSorted()).toEqual(orderIds.toSorted());
  kit.expectNoDeadLetters();
  await container.unbindAllAsync();
  expect(kit.broker.status().state).toBe("stopped");
});

test("the kit takes the place of an application's own broker", async () => {
  const container = application(inProcess());
  (await container.rebindAsync(BROKER)).toConstantValue(kit.broker);
  await startMessaging(container);
  await container.get(PUBLISHER).send(orders, { id: "a" });
  await kit.idle();
  expect(kit.sent(receipts)).toHaveLength(1);
  await container.unbindAllAsync();
});
