// What the publisher makes of confirms and returns; a real server is slower to return messages in this order.
import { EventEmitter } from "node:events";
import type { ConfirmChannel, Message, Options } from "amqplib";
import { expect, test } from "vitest";
import type { Connection } from "../../../adapters/rabbitmq/connection.ts";
import { DeclaredResources } from "../../../adapters/rabbitmq/declared-resources.ts";
import { Publisher } from "../../../adapters/rabbitmq/publisher.ts";
import { Redactor } from "../../../adapters/rabbitmq/redactor.ts";
import type { SendResult } from "../../../core/adapter.ts";
import type { Address } from "../../../core/address.ts";
import { outgoing } from "../../sqs/outgoing.ts";

interface Published {
  readonly options: Options.Publish;
  confirm(): void;
}

class FakeChannel extends EventEmitter {
  readonly published: Published[] = [];

  publish(_exchange: string, _key: string, _body: Buffer, options: Options.Publish, done: (error: null) => void): void {
    this.published.push({ options, confirm: () => done(null) });
  }

  return({ options: { messageId, headers } }: Published): void {
    this.emit("return", { properties: { messageId, headers } } as unknown as Message);
  }
}

const QUEUE: Address = { kind: "queue", name: "orders" };
const TOPIC: Address = { kind: "topic", name: "placed" };

/** Sends messages with these ids, and returns the results as they come. */
async function sending(...messages: readonly (readonly [to: Address, id: string])[]) {
  const channel = new FakeChannel();
  const redactor = new Redactor("ada");
  const model = { createConfirmChannel: async () => channel as unknown as ConfirmChannel, connection: {} };
  const link = { model, where: "here", redactor, cut: () => {} } as unknown as Connection;
  const known = new DeclaredResources(
    () => undefined,
    async () => true,
    1_000,
  );
  known.declared("queue orders");
  known.add("exchange placed");
  const settings = { requestTimeoutMs: 60_000, username: "ada", redactor };
  const publisher = new Publisher(
    known,
    settings,
    () => {},
    () => {},
  );
  await publisher.prepare(link);
  const results: (SendResult | undefined)[] = messages.map(() => undefined);
  const send = (to: Address, id: string, index: number) =>
    publisher.send(to, [outgoing({ id })], (_index, result) => {
      results[index] = result;
    });
  for (const [index, [to, id]] of messages.entries()) send(to, id, index);
  return { channel, results, send };
}

test("ids that look like another message's twin are told apart", async () => {
  const { channel, results } = await sending([TOPIC, "a 1"], [QUEUE, "a"], [QUEUE, "a"]);
  const [event] = channel.published;
  if (event !== undefined) channel.return(event);
  for (const one of channel.published) one.confirm();
  expect(results).toMatchObject([
    { status: "rejected", error: { code: "unroutable" } },
    { status: "confirmed" },
    { status: "confirmed" },
  ]);
});

test("of two messages with one id, the returned one is found", async () => {
  const { channel, results } = await sending([TOPIC, "a"], [TOPIC, "a"]);
  const [, second] = channel.published;
  if (second !== undefined) channel.return(second);
  for (const one of channel.published) one.confirm();
  expect(results).toMatchObject([{ status: "confirmed" }, { status: "rejected" }]);
});

test("a return that matches nothing leaves every message unknown that was pending, and no later one", async () => {
  const { channel, results, send } = await sending([QUEUE, "a"], [TOPIC, "b"]);
  channel.return({ options: { messageId: "a", headers: { "anybroker-twin": "zzz" } }, confirm: () => {} });
  // The clock must move on.
  const since = performance.now();
  await expect.poll(() => performance.now()).toBeGreaterThan(since);
  send(QUEUE, "c", 2);
  for (const one of channel.published) one.confirm();
  expect(results.map((result) => result?.status)).toEqual(["unknown", "unknown", "confirmed"]);
});
