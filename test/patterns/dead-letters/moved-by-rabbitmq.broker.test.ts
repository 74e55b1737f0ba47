import { expect, test } from "vitest";
import { rabbitmq } from "../../../adapters/rabbitmq/index.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { queue } from "../../../core/destination.ts";
import { deadLetters } from "../../../patterns/dead-letters/index.ts";
import { useVirtualHost } from "../../adapters/conformance/virtual-host.ts";
import { describeRabbitMQ } from "../../brokers/suite.ts";
import { freshName, type Order, until } from "./graveyard.ts";

describeRabbitMQ("dead letters that RabbitMQ itself moved", (broker) => {
  const host = useVirtualHost(broker);

  test("show up alike, with its reason; sent back, they begin a life without deaths", async () => {
    const { url, namePrefix } = host();
    const adapter = rabbitmq({ url, deliveryLimit: 1 });
    const orders = queue<Order>(freshName({ name: "rabbitmq", adapter: () => adapter, namePrefix }, "orders"));
    const one = createBroker(adapter, { destinations: [orders] });
    await one.start();
    await one.send(orders, { n: 1 }, { id: "killer", key: "k", headers: { tenant: "acme" } });
    const channel = await adapter.connections.consuming?.createChannel();
    await until("RabbitMQ to move it", async () => {
      const message = (await channel?.get(orders.name)) ?? false;
      // Rejected, it counts as a delivery that failed, on every version.
      if (message !== false) channel?.reject(message, true);
      const { count } = await deadLetters(one, orders).count();
      return count === 1;
    });
    await channel?.close();
    const dead = deadLetters(one, orders);
    const { entries } = await dead.list();
    expect(entries).toMatchObject([
      {
        messageId: "killer",
        key: "k",
        headers: { tenant: "acme" },
        reason: "crashed",
        errorClass: "MessagingError",
        error: expect.stringContaining("RabbitMQ moved it"),
        firstFailedAt: expect.any(String),
        lastFailedAt: expect.any(String),
        replays: 0,
        valid: "unknown",
      },
    ]);
    // Looked at again, it is the same entry.
    expect((await dead.list({ filter: "reason = crashed" })).entries).toEqual(entries);
    const handled: { id: string; attempt: number }[] = [];
    one.consume(orders, (_, { id, attempt, native }) => {
      handled.push({ id, attempt });
      expect(native.properties.headers?.["x-death"]).toBeUndefined();
    });
    const { run } = await dead.replay("reason = crashed");
    await expect(run()).resolves.toMatchObject({ done: 1, stopped: undefined });
    await until("its handling", () => handled.length === 1);
    expect(handled).toEqual([{ id: "killer", attempt: 1 }]);
    expect(await dead.count()).toMatchObject({ count: 0 });
    await one.stop();
  });
});
