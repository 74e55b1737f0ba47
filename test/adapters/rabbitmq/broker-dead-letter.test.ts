import type { ConsumeMessage } from "amqplib";
import { expect, test } from "vitest";
import { incomingDeadLetter } from "../../../adapters/rabbitmq/dead-letters.ts";
import { HEADER } from "../../../core/system-headers.ts";

const ORDERS = { kind: "queue", name: "orders" } as const;
const TRAP = { toString: 1, valueOf: 1 };

function dead(deaths: unknown): ConsumeMessage {
  return {
    content: Buffer.from("body"),
    fields: { exchange: "", routingKey: "orders.dlq", deliveryTag: 1, redelivered: false, consumerTag: "c" },
    properties: { messageId: "m", headers: { "x-death": deaths, own: "kept" } },
  } as unknown as ConsumeMessage;
}

test("what RabbitMQ moved says why and when", () => {
  const time = { "!": "timestamp", value: 1_700_000_000 };
  const { headers } = incomingDeadLetter(ORDERS, dead([{ reason: "expired", queue: "orders", time }]), 1, 0);
  expect(headers[HEADER.deadReason]).toBe("expired");
  expect(headers[HEADER.deadLastAt]).toBe("2023-11-14T22:13:20.000Z");
});

test.for([
  ["no list", TRAP],
  ["a list of anything", [null, 5, "text", [], TRAP]],
  ["a queue that is no text", [{ reason: "expired", queue: TRAP }]],
  ["a reason that is no text", [{ reason: TRAP, queue: "orders" }]],
  ["a reason of nobody", [{ reason: "__proto__", queue: "orders" }]],
] as const)("a record of deaths that RabbitMQ did not write tells nothing: %s", ([, deaths]) => {
  const message = incomingDeadLetter(ORDERS, dead(deaths), 1, 0);
  expect({ ...message.headers }).toEqual({ own: "kept" });
  expect(Buffer.from(message.body).toString()).toBe("body");
});

test.for([
  ["null", null],
  ["a table", { value: TRAP }],
  ["a time beyond dates", { "!": "timestamp", value: 1e300 }],
] as const)("a death without a time that can be read has none: %s", ([, time]) => {
  const { headers } = incomingDeadLetter(ORDERS, dead([{ reason: "rejected", queue: "orders", time }]), 1, 0);
  expect(headers[HEADER.deadReason]).toBe("rejected");
  expect(headers[HEADER.deadLastAt]).toBeUndefined();
});
