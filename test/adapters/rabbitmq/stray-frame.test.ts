// A frame that belongs to nothing, from a server that never answers the close that follows.
import { expect, onTestFinished, test } from "vitest";
import { rabbitmq } from "../../../adapters/rabbitmq/index.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { queue } from "../../../core/destination.ts";
import type { BrokerEvent } from "../../../core/events.ts";
import { delivered, type Say, scriptedServer } from "./scripted-server.ts";

const NOTHING = { id: "stray", headers: Buffer.alloc(0), body: "{}" };
/** The properties and the body of a delivery, without the method that says so. */
const stray = (say: Say, channel: number): void => {
  const bytes = delivered(channel, { tag: 1, ...NOTHING });
  say("Raw", channel, { bytes: bytes.subarray(8 + bytes.readUInt32BE(3)) });
};

const ack =
  (method: string, deliveryTag: number, multiple = false) =>
  (say: Say, channel: number): void =>
    say(method, channel, { deliveryTag, multiple });
/** A delivery whose announced body is larger than any message of RabbitMQ. It never ends. */
const endless = (say: Say, channel: number): void => {
  const bytes = delivered(channel, { tag: 1, ...NOTHING });
  const header = bytes.indexOf(Buffer.of(0, 60, 0, 0, 0, 0, 0, 0, 0, 0), 8);
  bytes.writeBigUInt64BE(2n ** 40n, header + 4);
  say("Raw", channel, { bytes: bytes.subarray(0, -(8 + NOTHING.body.length)) });
};

test.each<[string, string, (say: Say, channel: number) => void, string?]>([
  ["a consumer's channel", "BasicConsume", stray],
  ["a publisher's channel", "BasicPublish", stray],
  ["no channel", "BasicConsume", (say) => stray(say, 77)],
  ["the connection itself", "BasicPublish", (say) => say("QueueBindOk", 0)],
  [
    "a publisher's channel, as a confirm of what was never sent",
    "BasicPublish",
    ack("BasicAck", 2 ** 32),
    "not unconfirmed",
  ],
  [
    "a publisher's channel, as a nack of what was never sent",
    "BasicPublish",
    ack("BasicNack", 2 ** 32, true),
    "not unconfirmed",
  ],
  ["a publisher's channel, as a confirm of no message", "BasicPublish", ack("BasicAck", 0, true), "not unconfirmed"],
  ["a consumer's channel, as the beginning of an endless message", "BasicConsume", endless, "1099511627776 bytes"],
])("a stray frame for %s has the connection made anew, and all goes on", async (_what, at, send, why = "") => {
  let sent = 0;
  let connections = 0;
  let published = 0;
  const server = await scriptedServer((method, channel, say) => {
    if (method === "ConnectionOpen") connections++;
    if (method === at && sent++ === 0) {
      // Behind the answer.
      setTimeout(() => send(say, channel), 20);
    } else if (method === "BasicPublish") say("BasicAck", channel, { deliveryTag: ++published, multiple: false });
    if (method === "BasicConsume" && (at !== method || sent > 1)) {
      say("BasicConsumeOk", channel, { consumerTag: "one" });
      say("Raw", channel, { bytes: delivered(channel, { tag: 1, ...NOTHING }) });
      return true;
    }
    return connections < 3 && (method === "ChannelClose" || method === "ConnectionClose");
  });
  onTestFinished(() => server.close());
  const events: BrokerEvent[] = [];
  const broker = createBroker(
    rabbitmq({
      url: `amqp://ada:secret@127.0.0.1:${server.port}`,
      requestTimeoutMs: 2_000,
      reconnect: { firstMs: 20 },
    }),
    { onEvent: (event) => void events.push(event) },
  );
  onTestFinished(() => broker.stop({ timeoutMs: 100 }));
  const orders = queue("orders");
  let handled = 0;
  broker.consume(orders, () => void handled++);
  await broker.start();
  await broker.send(orders, {});
  await expect.poll(() => handled, { timeout: 60_000 }).toBeGreaterThan(0);
  await expect
    .poll(() => events.map(({ type }) => type), { timeout: 60_000 })
    .toEqual(expect.arrayContaining(["down", "up"]));
  expect(connections).toBeGreaterThanOrEqual(3);
  expect(events.find((event) => event.type === "down")?.error.message).toContain(why);
});
