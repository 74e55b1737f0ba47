import type { ConsumeMessage } from "amqplib";
import { expect, onTestFinished, test } from "vitest";
import { rabbitmq } from "../../../adapters/rabbitmq/index.ts";
import { createBroker } from "../../../core/create-broker.ts";
import type { Delivery } from "../../../core/delivery.ts";
import { queue } from "../../../core/destination.ts";
import { isMessagingError } from "../../../core/errors.ts";
import type { BrokerEvent } from "../../../core/events.ts";
import { delivered, nested, type Script, scriptedServer, table, value } from "./scripted-server.ts";

const text = (words: string): Buffer => value("S", Buffer.from(words));
const FIRST = table({ colour: text("red") });

/** Takes three messages, of which the second has these headers, and tells what became of them. */
async function consumed(headers: Buffer) {
  const acked: number[] = [];
  let published = 0;
  const script: Script = (method, channel, say) => {
    if (method === "BasicPublish") say("BasicAck", channel, { deliveryTag: ++published, multiple: false });
    if (method === "BasicAck") acked.push(acked.length + 1);
    if (method !== "BasicConsume") return false;
    say("BasicConsumeOk", channel, { consumerTag: "one" });
    const bytes = Buffer.concat([
      delivered(channel, { tag: 1, id: "one", headers: FIRST, body: '{"n":1}' }),
      delivered(channel, { tag: 2, id: "two", headers, body: '{"n":2}' }),
      delivered(channel, { tag: 3, id: "three", headers: FIRST, body: '{"n":3}' }),
    ]);
    // In two pieces: the second ends what the first began.
    say("Raw", channel, { bytes: bytes.subarray(0, bytes.length >> 1) });
    setTimeout(() => say("Raw", channel, { bytes: bytes.subarray(bytes.length >> 1) }), 20);
    return true;
  };
  const server = await scriptedServer(script);
  onTestFinished(() => server.close());
  const events: BrokerEvent[] = [];
  const handled: Delivery[] = [];
  const broker = createBroker(rabbitmq({ url: `amqp://ada:secret@127.0.0.1:${server.port}` }), {
    onEvent: (event) => void events.push(event),
  });
  onTestFinished(() => broker.stop({ timeoutMs: 100 }));
  broker.consume(queue("orders"), (_body, delivery) => void handled.push(delivery));
  await broker.start();
  await expect.poll(() => handled.length + events.filter(({ type }) => type === "dead-lettered").length).toBe(3);
  const dead = events.find((event) => event.type === "dead-lettered");
  const why = isMessagingError(dead?.error) ? dead.error.message : undefined;
  return { handled, isLost: events.some(({ type }) => type === "down"), dead, why };
}

test.each<[string, Buffer]>([
  ["in tables nested too deep", nested(8_000)],
  ["in a list of an unknown type", value("A", Buffer.from("?"))],
  ["that are cut off", value("F", table({ number: value("l", Buffer.alloc(2)) }))],
])("a message with headers %s is dead, as invalid, and the others go on", async (_what, header) => {
  const { handled, isLost, dead, why } = await consumed(table({ colour: text("red"), odd: header, size: text("10") }));
  expect(handled.map(({ id }) => id)).toEqual(["one", "three"]);
  expect(handled[0]?.headers).toEqual({ colour: "red" });
  expect(isLost).toBe(false);
  expect(dead).toMatchObject({ id: "two", reason: "invalid" });
  expect(why).toContain("cannot decode some headers of the message (odd):");
});

test("behind a header of an unknown type the others are not read", async () => {
  const { why } = await consumed(table({ colour: text("red"), odd: value("?", Buffer.alloc(3)), size: text("10") }));
  expect(why).toContain("(odd and all after it)");
});

test("headers that amqplib can decode arrive as they are", async () => {
  const { handled } = await consumed(table({ deep: nested(100), long: value("l", Buffer.alloc(8, 1)) }));
  expect(handled.map(({ id }) => id)).toEqual(["one", "two", "three"]);
  expect((handled[1] as Delivery<ConsumeMessage>).native.properties.headers?.long).toBe(Number(0x0101010101010101n));
});
