import { GetQueueUrlCommand, ReceiveMessageCommand } from "@aws-sdk/client-sqs";
import { afterAll, expect, test } from "vitest";
import { sqs } from "../../../adapters/sqs/index.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { queue } from "../../../core/destination.ts";
import { deadLetters } from "../../../patterns/dead-letters/index.ts";
import { describeElasticMQ } from "../../brokers/suite.ts";
import { type Order, until } from "./graveyard.ts";

// On ElasticMQ, which says from where it moved a message; fauxqs does not.
describeElasticMQ("dead letters that SQS itself moved", (broker) => {
  const place = broker.newNamespace();
  afterAll(() => place.remove());

  test("show up alike, with its reason, and can be sent back", async () => {
    const adapter = sqs({
      endpoint: broker.url,
      region: broker.region,
      credentials: broker.credentials,
      namePrefix: place.namePrefix,
      maxReceives: 1,
      visibilityTimeoutMs: 10_000,
      waitSeconds: 1,
    });
    const orders = queue<Order>("orders");
    const shop = createBroker(adapter, { destinations: [orders] });
    await shop.start();
    await shop.send(orders, { n: 1 }, { id: "killer", key: "k", headers: { tenant: "acme" } });
    const dead = deadLetters(shop, orders);
    const client = adapter.clients?.sqs;
    const name = adapter.physicalName({ kind: "queue", name: "orders" }).replace(/^queue /, "");
    const url = (await client?.send(new GetQueueUrlCommand({ QueueName: name })))?.QueueUrl;
    await until("SQS to move it", async () => {
      // Taken, and never settled.
      await client?.send(new ReceiveMessageCommand({ QueueUrl: url, VisibilityTimeout: 0 }));
      return (await dead.count()).count === 1;
    });
    const { entries } = await dead.list();
    expect(entries).toMatchObject([
      {
        messageId: "killer",
        key: "k",
        headers: { tenant: "acme" },
        reason: "crashed",
        error: expect.stringContaining("SQS moved it"),
        firstFailedAt: expect.any(String),
        lastFailedAt: expect.any(String),
      },
    ]);
    expect((await dead.list({ filter: "reason = crashed" })).entries).toEqual(entries);
    const handled: string[] = [];
    shop.consume(orders, (_, { id }) => void handled.push(id));
    const { run } = await dead.replay("reason = crashed");
    await expect(run()).resolves.toMatchObject({ done: 1, stopped: undefined });
    await until("its handling", () => handled.length === 1);
    await shop.stop();
  });
});
