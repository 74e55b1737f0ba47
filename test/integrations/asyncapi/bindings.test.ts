import { join } from "node:path";
import { type Adapter, queue, subscription, topic } from "anybroker";
import { asyncapi, kafkaBindings, rabbitmqBindings, sqsBindings } from "anybroker/asyncapi";
import { kafka } from "anybroker/kafka";
import { memory } from "anybroker/memory";
import { rabbitmq } from "anybroker/rabbitmq";
import { sqs } from "anybroker/sqs";
import { describe, expect, test } from "vitest";
import { importsOf, readSource } from "../../house/sources.ts";
import { info, shop } from "./shop.ts";

const placed = topic<{ id: string }>("order.placed", { ordered: true });
const destinations = [
  queue("work_items"),
  placed,
  subscription(placed, "billing", { filter: "geo.us.ny" }),
  subscription(placed, "audit", { filter: "geo.#" }),
];

describe("the bindings", () => {
  test.for([
    [rabbitmq(), rabbitmqBindings()],
    [kafka({ brokers: "localhost:9092" }), kafkaBindings()],
    [sqs({ namePrefix: "shop-" }), sqsBindings({ namePrefix: "shop-" })],
  ] as const)("%#: from an adapter and without its client the documents are the same", ([adapter, bindings]) => {
    const document = asyncapi({ info, destinations: shop, adapter: adapter as Adapter });
    expect(document).toEqual(asyncapi({ info, destinations: shop, bindings }));
    expect(JSON.stringify(document)).toContain('"bindingVersion"');
  });

  test("of an adapter that is not known are its names alone", () => {
    const named: Adapter = Object.assign(memory(), {
      physicalName: (address: object) => `place ${JSON.stringify(address)}`,
    });
    expect(asyncapi({ info, destinations, adapter: named })).toEqual(asyncapi({ info, destinations }));
  });

  test("of RabbitMQ are its queues and exchanges", () => {
    const { channels, operations } = asyncapi({ info, destinations, bindings: rabbitmqBindings({ vhost: "shop" }) });
    expect(channels["topic.order.placed"]).toMatchObject({
      address: "{routingKey}",
      bindings: { amqp: { is: "routingKey", exchange: { name: "order.placed", type: "topic", vhost: "shop" } } },
    });
    expect(channels["subscription.order.placed..billing"]).toMatchObject({
      address: "order.placed..billing",
      bindings: { amqp: { is: "queue", queue: { name: "order.placed..billing", durable: true, vhost: "shop" } } },
    });
    expect(operations["send.queue.work_items"]?.bindings).toMatchObject({ amqp: { deliveryMode: 2, mandatory: true } });
  });

  test("of Kafka are its topics and groups", () => {
    const { channels, operations } = asyncapi({ info, destinations, bindings: kafkaBindings({ partitions: 8 }) });
    expect(Object.keys(channels)).toEqual(["queue.work_items", "topic.order.placed"]);
    expect(channels["topic.order.placed"]?.bindings).toMatchObject({ kafka: { topic: "order.placed", partitions: 8 } });
    expect(operations["receive.subscription.order.placed..billing"]).toMatchObject({
      channel: { $ref: "#/channels/topic.order.placed" },
      bindings: { kafka: { groupId: { enum: ["order.placed..billing"] } } },
    });
  });

  test("of SQS are its queues, and SNS topics with their consumers", () => {
    const { channels, operations } = asyncapi({ info, destinations, bindings: sqsBindings({ maxReceives: 7 }) });
    expect(channels["queue.work_items"]?.bindings).toMatchObject({
      sqs: {
        queue: { name: "work__items", fifoQueue: false, redrivePolicy: { maxReceiveCount: 7 } },
        deadLetterQueue: { name: "work__items_-dlq", fifoQueue: false },
      },
    });
    expect(channels["subscription.order.placed..billing"]?.address).toBe("order_-placed_-_-billing.fifo");
    expect(operations["send.topic.order.placed"]?.bindings).toMatchObject({
      sns: {
        topic: { name: "order_-placed.fifo" },
        consumers: [
          {
            endpoint: { name: "order_-placed_-_-audit.fifo" },
            "x-filterPolicy": { "anybroker-routing-key": ["geo", { prefix: "geo." }] },
          },
          {
            endpoint: { name: "order_-placed_-_-billing.fifo" },
            filterPolicy: { "anybroker-routing-key": ["geo.us.ny"] },
          },
        ],
      },
    });
  });

  test.for([
    () => rabbitmqBindings({ vhosts: "x" } as object),
    () => kafkaBindings({ partitions: 0 }),
    () => sqsBindings({ maxReceives: 1001 }),
  ])("%#: wrong options are refused", (make) => {
    expect(make).toThrow(expect.objectContaining({ code: "invalid" }));
  });
});

test("no client is imported on the way", () => {
  const seen = new Set<string>();
  const packages = new Set<string>();
  const visit = (path: string): void => {
    if (seen.has(path)) return;
    seen.add(path);
    for (const { specifier, target, typeOnly } of importsOf(readSource(path))) {
      if (typeOnly) continue;
      if (target === undefined) packages.add(specifier);
      else visit(join(target));
    }
  };
  visit("integrations/asyncapi/index.ts");
  expect(seen).toContain("adapters/sqs/names.ts");
  expect([...packages].filter((name) => !name.startsWith("node:")).sort()).toEqual(["secure-json-parse", "uuid"]);
});
