import { expect, onTestFinished, test } from "vitest";
import { rabbitmq } from "../../../adapters/rabbitmq/index.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { queue } from "../../../core/destination.ts";
import type { BrokerEvent } from "../../../core/events.ts";
import { type Script, scriptedServer } from "./scripted-server.ts";

/** For all answers at the start, too. */
const REQUEST_MS = 2_000;

async function started(script: Script, maxMessages: number) {
  const server = await scriptedServer(script);
  onTestFinished(() => server.close());
  const orders = queue<number>("orders");
  const events: BrokerEvent[] = [];
  const broker = createBroker(
    rabbitmq({ url: `amqp://ada:secret@127.0.0.1:${server.port}`, requestTimeoutMs: REQUEST_MS }),
    { destinations: [orders], publish: { maxMessages }, onEvent: (event) => void events.push(event) },
  );
  onTestFinished(() => broker.stop({ timeoutMs: 100 }));
  await broker.start();
  const send = (n: number, timeoutMs: number): Promise<string> =>
    broker.send(orders, n, { timeoutMs }).then(
      () => "confirmed",
      ({ code }) => code,
    );
  return { broker, events, send };
}

test("what a server does not confirm frees its place, and the others go on over the same connection", async () => {
  let published = 0;
  const tags = new Map<number, number>();
  const { broker, events, send } = await started((method, channel, say) => {
    if (method !== "BasicPublish") return false;
    const deliveryTag = (tags.get(channel) ?? 0) + 1;
    tags.set(channel, deliveryTag);
    if (published++ >= 3) say("BasicAck", channel, { deliveryTag, multiple: false });
    return true;
  }, 3);
  const first = await Promise.all([1, 2, 3].map((n) => send(n, 100)));
  expect(first).toEqual(["unconfirmed", "unconfirmed", "unconfirmed"]);
  expect(await send(4, 60_000)).toBe("confirmed");
  await expect.poll(() => broker.status().publishing.messages).toBe(0);
  expect(published).toBe(4);
  const told = events.filter((event) => event.type === "notice").map(({ error }) => error.message);
  expect(told).toEqual([expect.stringContaining('has not confirmed a message for queue "orders"')]);
  expect(events.filter(({ type }) => type === "down")).toEqual([]);
});

test("while the server has an alarm nothing is overdue", async () => {
  let unblock = (): void => {};
  const { events, send } = await started((method, channel, say) => {
    if (method !== "BasicPublish") return false;
    say("ConnectionBlocked", 0, { reason: "memory" });
    unblock = () => {
      say("ConnectionUnblocked", 0);
      say("BasicAck", channel, { deliveryTag: 1, multiple: false });
    };
    return true;
  }, 3);
  const sent = send(1, 60_000);
  await new Promise((resolve) => setTimeout(resolve, 4 * REQUEST_MS));
  unblock();
  expect(await sent).toBe("confirmed");
  expect(events.filter(({ type }) => type === "notice")).toEqual([]);
});
