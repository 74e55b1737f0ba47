import type { ConsumeMessage, MessageProperties } from "amqplib";
import { describe, expect, test } from "vitest";
import { incoming, incomingWork, publishOptions, USER_HEADER } from "../../../adapters/rabbitmq/message-codec.ts";
import { outgoing } from "../../sqs/outgoing.ts";

function delivery(properties: Partial<MessageProperties>): ConsumeMessage {
  const fields = { exchange: "", routingKey: "orders", redelivered: false, deliveryTag: 1, consumerTag: "" };
  return { fields, properties: properties as MessageProperties, content: Buffer.from("{}") };
}

/** A copy of it, sent by a user. */
function copied(properties: Partial<MessageProperties>, login = "shop") {
  const { id, key, headers, body, contentType, priority = 0, foreign } = incoming(delivery(properties), 1, 0);
  return publishOptions(outgoing({ id, key, headers, body, contentType, priority, foreign }), false, login);
}

describe("what another sender gave a message", () => {
  test("goes with a copy: properties, and headers that are no texts", () => {
    const properties = { replyTo: "answers", correlationId: "7", type: "t", appId: "a", timestamp: 5, userId: "shop" };
    const headers = { count: 7, table: { deep: [1, null] }, nothing: null, text: "x" };
    const options = copied({ ...properties, contentEncoding: "gzip", headers });
    expect(options).toMatchObject({ ...properties, contentEncoding: "gzip" });
    expect({ ...options.headers }).toEqual(headers);
    expect(options).not.toHaveProperty("contentType");
    expect(options).not.toHaveProperty("expiration");
  });

  test("is as before on the next copy, also the user whose name no other may sign with", () => {
    const first = copied({ userId: "billing", correlationId: "7" });
    expect(first.userId).toBeUndefined();
    expect(first.headers?.[USER_HEADER]).toBe("billing");
    const { headers } = incoming(delivery({ headers: first.headers as object }), 1, 0);
    expect({ ...headers }).toEqual({});
    const next = copied({ headers: first.headers as object }, "shop");
    expect(next.headers?.[USER_HEADER]).toBe("billing");
    // Anybody may write that header: it is no proof, and nothing is signed for it.
    const signed = copied({ headers: first.headers as object }, "billing");
    expect(signed.userId).toBeUndefined();
    expect(signed.headers?.[USER_HEADER]).toBe("billing");
  });

  test("is left where a copy has another body or header", () => {
    const read = incoming(delivery({ contentEncoding: "gzip", correlationId: "7", headers: { count: 7 } }), 1, 0);
    const edited = outgoing({ headers: { count: "8" }, foreign: read.foreign });
    const options = publishOptions(edited, false, "shop");
    expect(options).not.toHaveProperty("contentEncoding");
    expect(options).toMatchObject({ correlationId: "7", headers: { count: "8" } });
  });

  test.for([
    ["a name for direct answers, which only who waits for one may use", { replyTo: "amq.rabbitmq.reply-to" }],
    ["a text over the limit, as bytes that are no UTF-8 become", { correlationId: "\ufffd".repeat(100) }],
    ["a time beyond AMQP's", { timestamp: 2 ** 64 }],
    ["a list nested too deep", { headers: { list: deep(10_000) } }],
    ["what only looks like a type", { headers: { odd: { "!": "shortstr", value: 5 } } }],
    ["a decimal of nothing", { headers: { odd: { "!": "decimal", value: null } } }],
  ])("that cannot be sent is left out: %s", ([, properties]) => {
    const options = copied(properties as Partial<MessageProperties>);
    for (const name of ["replyTo", "correlationId", "timestamp"]) expect(options).not.toHaveProperty(name);
    for (const value of Object.values(options.headers ?? {})) expect(typeof value).toBe("string");
  });

  test("is no id that a copy could not have, as bytes that are no UTF-8 become: it gets one by its content", () => {
    const idOf = (messageId: string) => incoming(delivery({ messageId }), 1, 0).id;
    const [first, second] = ["1", "2"].map((n) => idOf(`${n}${"\ufffd".repeat(100)}`));
    expect(first).toMatch(/^sha256-[0-9a-f]{40}$/);
    expect(second).not.toBe(first);
    expect(idOf(`1${"\ufffd".repeat(100)}`)).toBe(first);
    expect(idOf("x".repeat(255))).toBe("x".repeat(255));
  });

  test("tells when it was sent, in seconds or, as some write it, milliseconds", () => {
    const at = (timestamp: number) => incoming(delivery({ timestamp }), 1, 0).sentAt;
    expect(at(1_700_000_000)).toBe(1_700_000_000_000);
    expect(at(1_700_000_000_123)).toBe(1_700_000_000_123);
    for (const none of [0, -1, 2 ** 63, Number.NaN]) expect(at(none), String(none)).toBeUndefined();
  });

  test("tells how long it may live, as work only", () => {
    const given = delivery({ expiration: "60000" });
    const left = (incomingWork(given, 1, 0).expiresAt ?? 0) - Date.now();
    expect(left).toBeGreaterThan(0);
    expect(left).toBeLessThanOrEqual(60_000);
    expect(incoming(given, 1, 0).expiresAt).toBeUndefined();
    expect(incomingWork(delivery({ expiration: "soon" as never }), 1, 0).expiresAt).toBeUndefined();
  });
});

describe("a priority", () => {
  test("is 4 and up on the wire, and none for the lowest, as RabbitMQ counts what has none", () => {
    const sent = (priority: number) => publishOptions(outgoing({ priority }), false, "shop").priority;
    expect([0, 1, 27].map(sent)).toEqual([undefined, 5, 31]);
    const read = (priority: number | undefined) => incoming(delivery({ priority }), 1, 0).priority;
    expect([undefined, 0, 4, 5, 31].map(read)).toEqual([0, 0, 0, 1, 27]);
  });

  test("of another sender that is lower stays so on a copy", () => {
    for (const priority of [0, 2, 4, 9]) expect(copied({ priority }).priority).toBe(priority);
  });
});

function deep(levels: number): unknown {
  let list: unknown = [];
  for (let level = 0; level < levels; level++) list = [list];
  return list;
}
