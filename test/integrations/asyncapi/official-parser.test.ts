import { Parser } from "@asyncapi/parser";
import { type AsyncApiDocument, asyncapi, kafkaBindings, rabbitmqBindings, sqsBindings } from "anybroker/asyncapi";
import fc from "fast-check";
import { expect, test } from "vitest";
import { destinationLists } from "./arbitrary-destinations.ts";
import { info, namesake, shop } from "./shop.ts";

// Of documents that are right, the parser says that there is a newer version of AsyncAPI.
const EXPECTED = ["asyncapi-latest-version"];

async function complaints(document: AsyncApiDocument): Promise<string[]> {
  const { diagnostics } = await new Parser().parse(JSON.stringify(document));
  return diagnostics
    .filter(({ code }) => !EXPECTED.includes(String(code)))
    .map(({ code, message, path }) => `${path.join("/")}: ${code}: ${message}`);
}

const brokers = [
  ["no broker in particular", undefined, "amqp"],
  ["RabbitMQ", rabbitmqBindings({ vhost: "shop" }), "amqps"],
  ["Kafka", kafkaBindings({ partitions: 4, replicationFactor: 3 }), "kafka-secure"],
  ["SQS and SNS", sqsBindings({ namePrefix: "shop-", maxReceives: 100 }), "https"],
] as const;

test.for(brokers)(
  "on %s the document is valid, with schemas of zod, arktype, valibot and none",
  async ([, bindings, protocol]) => {
    const document = asyncapi({
      info: { ...info, description: "What the shop says and hears." },
      servers: { production: { host: "broker.example.com:1234", protocol } },
      destinations: protocol === "kafka-secure" ? shop : [...shop, namesake],
      correlationHeader: "x-trace/~id",
      ...(bindings === undefined ? {} : { bindings }),
    });
    expect(await complaints(document)).toEqual([]);
    expect(
      await complaints(asyncapi({ ...(bindings === undefined ? {} : { bindings }), info, destinations: [] })),
    ).toEqual([]);
  },
);

test("the parser finds in the document what was declared", async () => {
  const { document } = await new Parser().parse(
    JSON.stringify(asyncapi({ info, destinations: shop, bindings: kafkaBindings() })),
  );
  const operation = document?.operations().get("receive.subscription.order.placed..billing");
  expect(operation?.channels().all()[0]?.address()).toBe("order.placed");
  const [message] = operation?.messages().all() ?? [];
  expect(message?.correlationId()?.location()).toBe("$message.header#/anybroker-id");
  expect(Object.keys(message?.payload()?.properties() ?? {})).toEqual(["orderId", "note"]);
  expect(message?.payload()?.required()).toEqual(["orderId"]);
  expect(message?.headers()?.required()).toEqual(["anybroker-content-type", "anybroker-id"]);
});

test("a wrong document would be found", async () => {
  const document = asyncapi({ info, destinations: shop });
  const broken = { ...document, channels: { "queue.orders": { address: 5 } } } as unknown as AsyncApiDocument;
  expect(await complaints(broken)).not.toEqual([]);
});

test("whatever is declared, the document is valid", async () => {
  const bindings = fc.constantFrom(undefined, rabbitmqBindings(), kafkaBindings(), sqsBindings());
  await fc.assert(
    fc.asyncProperty(destinationLists, bindings, async (destinations, chosen) => {
      const document = asyncapi({ info, destinations, ...(chosen === undefined ? {} : { bindings: chosen }) });
      expect(await complaints(document)).toEqual([]);
    }),
    { numRuns: 12 },
  );
}, 120_000);
