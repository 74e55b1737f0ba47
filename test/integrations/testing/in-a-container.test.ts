import "reflect-metadata";
import { type Publisher, queue } from "anybroker";
import { bindHandler, messagingModule, PUBLISHER, startMessaging } from "anybroker/inversify";
import { testBroker } from "anybroker/testing";
import { Container } from "inversify";
import { expect, test } from "vitest";

const orders = queue<{ id: string }>("orders");
const receipts = queue<{ orderId: string }>("receipts");

test("an application in a container is tested by giving it the kit's broker", async () => {
  await using kit = testBroker({ destinations: [receipts] });
  const container = new Container();
  let failures = 2;
  class Billing {
    readonly #publisher: Publisher = container.get(PUBLISHER);

    async handle({ id }: { readonly id: string }): Promise<void> {
      if (failures-- > 0) throw new Error("the bank is closed");
      await this.#publisher.send(receipts, { orderId: id });
    }
  }
  bindHandler(container, orders, Billing, { retry: { delay: { firstMs: 3_600_000 } } });
  container.load(messagingModule({ broker: kit.broker }));
  await startMessaging(container);
  await container.get(PUBLISHER).send(orders, { id: "o-1" });
  await kit.idle();
  expect(kit.sent(receipts).map(({ body }) => body)).toEqual([{ orderId: "o-1" }]);
  expect(kit.consumed(orders).map(({ attempt }) => attempt)).toEqual([3]);
  kit.expectNoDeadLetters();
  await kit.clock.passUntil(container.unbindAllAsync());
  expect(kit.broker.status().state).toBe("stopped");
});
