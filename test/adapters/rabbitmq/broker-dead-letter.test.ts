import type { ConsumeMessage } from "amqplib";
import { expect, onTestFinished, test } from "vitest";
import { incomingDeadLetter } from "../../../adapters/rabbitmq/dead-letters.ts";
import { HEADER } from "../../../core/system-headers.ts";
import { message, topology, workQueue } from "../seam-values.ts";
import { keepingSink, openAdapter } from "./open-adapter.ts";
import { delivered, scriptedServer } from "./scripted-server.ts";

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

test.for([
  ["is as declared", false],
  ["was made anew without dead letters", true],
] as const)(
  "a message is given to RabbitMQ's dead lettering only if its queue, at that moment, %s",
  async ([, isOther]) => {
    let isConsumed = false;
    const said: string[] = [];
    const server = await scriptedServer((method, channel, say) => {
      said.push(method);
      if (method === "QueueDeclare" && isConsumed && isOther) {
        const replyText = "PRECONDITION_FAILED - inequivalent arg 'x-dead-letter-exchange' for queue 'orders'";
        say("ChannelClose", channel, { replyCode: 406, replyText, classId: 50, methodId: 10 });
        return true;
      }
      if (method !== "BasicConsume") return false;
      isConsumed = true;
      say("BasicConsumeOk", channel, { consumerTag: "one" });
      say("Raw", channel, { bytes: delivered(channel, { tag: 1, id: "one", headers: Buffer.alloc(0), body: "{}" }) });
      return true;
    });
    onTestFinished(() => server.close());
    const { adapter } = await openAdapter({ url: `amqp://ada:secret@127.0.0.1:${server.port}` });
    onTestFinished(() => adapter.close());
    await adapter.declare(topology({ queues: [workQueue("orders")] }));
    const { kept, sink } = keepingSink();
    const receiver = await adapter.receive(ORDERS, { prefetch: 10, ordered: false }, sink);
    await expect.poll(() => kept).toHaveLength(1);
    const result = await receiver.deadLetter?.(kept[0]?.token, message("one"));
    expect(result).toMatchObject(
      isOther ? { status: "refused", error: { code: "unsupported" } } : { status: "settled" },
    );
    if (isOther) expect(said).not.toContain("BasicNack");
    else await expect.poll(() => said).toContain("BasicNack");
  },
);
