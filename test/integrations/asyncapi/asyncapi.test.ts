import { jsonCodec, queue, subscription } from "anybroker";
import { HEADER } from "anybroker/adapter";
import { asyncapi, type JsonObject, kafkaBindings, rabbitmqBindings } from "anybroker/asyncapi";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { destinationLists } from "./arbitrary-destinations.ts";
import { info, namesake, orders, placed, shop } from "./shop.ts";

const schemasOf = (options: Partial<Parameters<typeof asyncapi>[0]> = {}): Record<string, JsonObject> =>
  asyncapi({ info, destinations: shop, ...options }).components.schemas as Record<string, JsonObject>;

describe("the schemas of bodies", () => {
  test("are what publishers send, unless the output is asked for", () => {
    const required = (payload: "input" | "output") => schemasOf({ payload })["queue.orders"]?.schema;
    expect(required("input")).toMatchObject({ required: ["id", "placedAt"] });
    expect(required("output")).toMatchObject({ required: ["id", "total", "placedAt"] });
  });

  test("come from zod, arktype and, made able to, valibot", () => {
    const schemas = schemasOf();
    for (const [key, property] of [
      ["queue.orders", "id"],
      ["topic.order.placed", "orderId"],
      ["queue.mails", "to"],
    ] as const) {
      expect(schemas[key]).toMatchObject({
        schemaFormat: "application/schema+json;version=draft-07",
        schema: { type: "object", properties: { [property]: { type: "string" } } },
      });
    }
  });

  test("that cannot be told are left open, with a note that says why", () => {
    const schemas = schemasOf();
    const open = "Any body: ";
    expect(schemas["queue.untold"]).toEqual({ description: `${open}it was declared without a schema.` });
    expect(schemas["queue.letters"]).toEqual({ description: `${open}the schema, of valibot, gives no JSON Schema.` });
    expect(schemas["queue.dated"]?.description).toMatch(/^Any body.*of zod, cannot be written as JSON Schema: .*Date/);
    expect(Object.keys(schemas["queue.dated"] ?? {})).toEqual(["description"]);
  });

  test("refer to themselves where they stand in the document, and leave values alone", () => {
    expect(schemasOf()["queue.categories"]).toMatchObject({
      schema: { properties: { children: { items: { $ref: "#/components/schemas/queue.categories/schema" } } } },
    });
    const Node = z.object({ kind: z.literal("node") }).meta({ id: "Node" });
    const Link = z.object({ $ref: z.string() }).default({ $ref: "#/no/pointer" });
    const { schema } = schemasOf({
      destinations: [queue("nodes", { schema: z.object({ one: Node, default: Node, link: Link }) })],
    })["queue.nodes"] as { schema: JsonObject };
    const inside = { $ref: "#/components/schemas/queue.nodes/schema/definitions/Node" };
    expect(schema).toMatchObject({
      properties: { one: inside, default: inside, link: { default: { $ref: "#/no/pointer" } } },
      definitions: { Node: { properties: { kind: { const: "node" } } } },
    });
  });
});

test("messages say their content types by their codecs", () => {
  const { messages } = asyncapi({ info, destinations: shop }).components;
  expect(messages).toMatchObject({
    "queue.images": { contentType: "application/octet-stream" },
    "queue.orders": { contentType: jsonCodec().contentType },
  });
});

test("headers are the engine's own, but for those of dead letters, and texts of the application", () => {
  const { properties, additionalProperties } = schemasOf()["anybroker.headers"] as Record<string, JsonObject>;
  const living = Object.values(HEADER).filter((name) => !name.startsWith("anybroker-dead-"));
  expect(Object.keys(properties ?? {})).toEqual([...living].sort());
  expect(additionalProperties).toEqual({ type: "string" });
});

test("what belongs together is told by the application's header", () => {
  const { components } = asyncapi({ info, destinations: [orders], correlationHeader: "x-trace/~id" });
  expect(components.correlationIds).toEqual({ correlation: { location: "$message.header#/x-trace~1~0id" } });
  expect(components.messages).toMatchObject({
    "queue.orders": { correlationId: { $ref: "#/components/correlationIds/correlation" } },
  });
  expect(schemasOf({ correlationHeader: "x-trace" })["anybroker.headers"]?.properties).toHaveProperty("x-trace");
});

describe("channels and operations", () => {
  test("a queue and a topic of one name are kept apart", () => {
    const { channels, operations } = asyncapi({ info, destinations: [...shop, namesake] });
    expect(channels["queue.orders"]?.["x-anybroker"]).toMatchObject({ kind: "queue", ttlMs: 60_000 });
    expect(channels["topic.orders"]?.["x-anybroker"]).toMatchObject({ kind: "topic", ordered: false });
    expect(Object.keys(operations).filter((key) => key.endsWith(".orders"))).toEqual([
      "receive.queue.orders",
      "send.queue.orders",
      "send.topic.orders",
    ]);
  });

  test("a subscription brings its topic, which it does not send to", () => {
    const destinations = [subscription(placed, "billing", { filter: "geo.us.#" })];
    const plain = asyncapi({ info, destinations });
    expect(Object.keys(plain.channels)).toEqual(["topic.order.placed"]);
    expect(plain.operations).toMatchObject({
      "receive.subscription.order.placed..billing": {
        action: "receive",
        channel: { $ref: "#/channels/topic.order.placed" },
        "x-anybroker": { subscription: "billing", filter: "geo.us.#" },
      },
    });
    expect(Object.keys(plain.operations)).toHaveLength(1);
    const apart = asyncapi({ info, destinations, bindings: rabbitmqBindings() });
    expect(Object.keys(apart.channels)).toEqual(["subscription.order.placed..billing", "topic.order.placed"]);
    expect(apart.operations).toMatchObject({
      "receive.subscription.order.placed..billing": {
        channel: { $ref: "#/channels/subscription.order.placed..billing" },
      },
    });
  });

  test("are those that the application says it has", () => {
    const { operations } = asyncapi({
      info,
      destinations: [orders, placed],
      actions: ({ kind }) => (kind === "queue" ? ["receive"] : []),
    });
    expect(Object.keys(operations)).toEqual(["receive.queue.orders"]);
  });

  test("what is listed twice is described once", () => {
    const once = asyncapi({ info, destinations: [orders, placed] });
    const again = queue("orders", { schema: orders.schema as z.ZodType, ttlMs: 60_000 });
    expect(asyncapi({ info, destinations: [placed, again, orders, placed] })).toEqual(once);
  });
});

test("the order of the list is of no matter, and every reference leads somewhere", () => {
  fc.assert(
    fc.property(
      destinationLists.chain((list) =>
        fc.tuple(fc.constant(list), fc.shuffledSubarray([...list], { minLength: list.length })),
      ),
      ([destinations, shuffled]) => {
        const document = asyncapi({ info, destinations });
        expect(JSON.stringify(asyncapi({ info, destinations: shuffled }))).toBe(JSON.stringify(document));
        for (const target of references(document)) expect(at(document, target), target).toBeDefined();
        const named = destinations.map((each) => (each.kind === "subscription" ? each.topic : each));
        expect(Object.keys(document.channels)).toEqual(
          [...new Set(named.map(({ kind, name }) => `${kind}.${name}`))].sort(),
        );
      },
    ),
  );
});

function references(value: unknown): string[] {
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([name, each]) =>
    name === "$ref" && typeof each === "string" ? [each] : references(each),
  );
}

function at(document: unknown, pointer: string): unknown {
  const path = pointer
    .slice(2)
    .split("/")
    .map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
  return path.reduce((value, name) => (value as Record<string, unknown> | undefined)?.[name], document);
}

describe("is refused", () => {
  const refusals: readonly [string, Partial<Record<keyof Parameters<typeof asyncapi>[0], unknown>>, string, RegExp][] =
    [
      ["an unknown option", { schemas: "input" } as object, "invalid", /no option "schemas"/],
      ["a document without a title", { info: { version: "1" } }, "invalid", /a title and a version/],
      [
        "what is no destination",
        { destinations: [undefined] },
        "invalid",
        /made by queue\(\), topic\(\) and subscription\(\)/,
      ],
      [
        "a password in a server",
        { servers: { a: { host: "u:canary@h", protocol: "amqp" } } },
        "invalid",
        /before the @ in a$/,
      ],
      ["a server without a protocol", { servers: { a: { host: "h" } } }, "invalid", /a lacks one$/],
      ["another side", { payload: "both" }, "invalid", /"input" or "output"/],
      ["both adapter and bindings", { adapter: {}, bindings: rabbitmqBindings() }, "invalid", /not both/],
      [
        "to receive from a topic",
        { actions: () => ["receive"], destinations: [placed] },
        "invalid",
        /"receive" for a topic/,
      ],
      [
        "a queue with two schemas",
        { destinations: [orders, queue("orders", { ttlMs: 60_000 })] },
        "conflict",
        /different schemas/,
      ],
      [
        "a queue with two orders",
        { destinations: [queue("a"), queue("a", { ordered: true })] },
        "conflict",
        /declared twice with different options/,
      ],
      [
        "two things that would be one",
        { destinations: [orders, namesake], bindings: { ...kafkaBindings(), physicalName: () => "topic one" } },
        "conflict",
        /would both be the topic one/,
      ],
      [
        "a name that the broker keeps",
        { destinations: [queue("amq.a")], bindings: rabbitmqBindings() },
        "invalid",
        /is not possible on RabbitMQ/,
      ],
    ];

  test.for(refusals)("%s", ([, options, code, message]) => {
    const document = () => asyncapi({ info, destinations: shop, ...options } as Parameters<typeof asyncapi>[0]);
    expect(document).toThrow(expect.objectContaining({ code, message: expect.stringMatching(message) }));
    expect(document).not.toThrow(/canary/);
  });
});
