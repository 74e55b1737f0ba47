import { type ConfirmChannel, type ConsumeMessage, connect } from "amqplib";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { rabbitmq } from "../../../adapters/rabbitmq/index.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { type Delivery, deadLetter } from "../../../core/delivery.ts";
import { queue } from "../../../core/destination.ts";
import { deadLetters } from "../../../patterns/dead-letters/index.ts";
import type { VirtualHost } from "../../brokers/rabbitmq.ts";
import { describeRabbitMQ } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";
import { sendForeign } from "./foreign-sender.ts";
import { nested } from "./scripted-server.ts";

const WAIT_MS = 240_000;
const DIRECT_REPLY = "amq.rabbitmq.reply-to";

describeRabbitMQ("messages of other senders on RabbitMQ", (broker) => {
  let place: VirtualHost;
  let connection: Awaited<ReturnType<typeof connect>>;
  let channel: ConfirmChannel;

  beforeAll(async () => {
    place = await broker.newVirtualHost();
    connection = await connect(place.url);
    channel = await connection.createConfirmChannel();
  });

  afterAll(async () => {
    await connection?.close();
    await place?.remove();
  });

  const named = (name: string) => queue<{ n: number }>(`${place.namePrefix}${name}`);
  const adapter = () => rabbitmq({ url: place.url });

  async function started(prepare: (one: ReturnType<typeof createBroker>) => unknown = () => {}) {
    const one = createBroker(adapter(), { consume: { retry: { attempts: 3, delay: { firstMs: 0, jitter: 0 } } } });
    onTestFinished(() => one.stop());
    prepare(one);
    await one.start();
    return one;
  }

  test("that ask for an answer have it, from the second attempt as well", async () => {
    const calls = named("calls");
    const answered: string[] = [];
    await started((one) =>
      one.consume(calls, ({ n }, { attempt, native }) => {
        if (attempt === 1) throw new Error("not yet");
        const { replyTo, correlationId } = (native as ConsumeMessage).properties;
        channel.sendToQueue(replyTo, Buffer.from(String(n + 1)), { correlationId });
      }),
    );
    await channel.consume(
      DIRECT_REPLY,
      (answer) => void answered.push(`${answer?.properties.correlationId}: ${answer?.content}`),
      { noAck: true },
    );
    const properties = { replyTo: DIRECT_REPLY, correlationId: "call-7" };
    channel.sendToQueue(calls.name, Buffer.from('{"n":1}'), properties);
    await until("the answer", WAIT_MS, () => expect(answered).toEqual(["call-7: 2"]));
  });

  test("that may live for a while do so over retries, and for ever as dead letters", async () => {
    const offers = named("offers");
    const seen: Delivery[] = [];
    const one = await started((broker) =>
      broker.consume(offers, (_, delivery) => {
        seen.push(delivery);
        if (seen.length === 1) throw new Error("not yet");
        if (seen.length === 2) return deadLetter("not here");
      }),
    );
    channel.sendToQueue(offers.name, Buffer.from('{"n":1}'), { expiration: 3_600_000, correlationId: "7" });
    const dead = deadLetters(one, offers);
    await until("the dead letter", WAIT_MS, async () => expect((await dead.list()).entries).toHaveLength(1));
    const { run } = await dead.replay("all");
    expect(await run()).toMatchObject({ done: 1 });
    await until("the replay", WAIT_MS, () => expect(seen).toHaveLength(3));
    const [first, second, third] = seen.map(({ native }) => (native as ConsumeMessage).properties);
    expect(first?.expiration).toBe("3600000");
    expect(Number(second?.expiration)).toBeGreaterThan(0);
    expect(Number(second?.expiration)).toBeLessThanOrEqual(3_600_000);
    // It begins anew, and has no time to live, like a message of anybroker's.
    expect(third?.expiration).toBeUndefined();
    expect(third?.correlationId).toBe("7");
  });

  test("that are compressed say so in their dead letters", async () => {
    const zipped = named("zipped");
    const one = await started((broker) => broker.consume(zipped, () => {}));
    const body = Buffer.from([0x1f, 0x8b, 8, 0]);
    channel.sendToQueue(zipped.name, body, { contentEncoding: "gzip", contentType: "application/json" });
    const dead = deadLetters(one, zipped);
    await until("the dead letter", WAIT_MS, async () => expect((await dead.list()).entries).toHaveLength(1));
    const [entry] = (await dead.list()).entries;
    expect(entry).toMatchObject({ reason: "invalid", contentType: "application/json" });
    expect(entry?.error).toContain('Its content-encoding is "gzip"');
  });

  test("whose headers cannot be decoded are dead, stop none of the others, and stand among the dead letters", async () => {
    const odd = named("odd");
    const handled: number[] = [];
    const lost: unknown[] = [];
    const one = createBroker(adapter(), { onEvent: (event) => void (event.type === "down" && lost.push(event)) });
    onTestFinished(() => one.stop());
    one.consume(odd, ({ n }) => void handled.push(n));
    await one.start();
    const headers = { colour: "red", deep: nested(8_000) };
    const messages = [1, 2, 3].map((n) => ({ headers: n === 2 ? headers : {}, body: JSON.stringify({ n }) }));
    await sendForeign(place.url, odd.name, messages, { waits: false });
    const dead = deadLetters(one, odd);
    await until("the dead letter", WAIT_MS, async () => expect((await dead.list()).entries).toHaveLength(1));
    const [entry] = (await dead.list()).entries;
    expect(entry).toMatchObject({ reason: "invalid", cut: "deep", headers: { colour: "red" } });
    await until("the others", WAIT_MS, () => expect(handled).toEqual([1, 3]));
    // As one that RabbitMQ itself, or a person, put there.
    await sendForeign(place.url, `${odd.name}.dlq`, [{ headers, body: '{"n":4}' }]);
    const all = await dead.list();
    expect([all.complete, all.entries.map(({ reason }) => reason).sort()]).toEqual([true, ["invalid", "unknown"]]);
    expect((await dead.replay("all")).plan).toMatchObject({ count: 0, refused: [{ count: 2 }] });
    expect(lost).toEqual([]);
  });

  test("without a priority neither overtake ours nor wait behind them", async () => {
    const mixed = named("mixed");
    const sender = createBroker(adapter(), { destinations: [mixed] });
    onTestFinished(() => sender.stop());
    await sender.start();
    await sender.send(mixed, { n: 0 });
    for (let n = 1; n < 20; n++) channel.sendToQueue(mixed.name, Buffer.from(JSON.stringify({ n })));
    await channel.waitForConfirms();
    await sender.send(mixed, { n: 20 });
    const handled: number[] = [];
    await started((one) => one.consume(mixed, ({ n }) => void handled.push(n), { concurrency: 1 }));
    await until("all", WAIT_MS, () => expect(handled).toHaveLength(21));
    expect(handled).toEqual(Array.from({ length: 21 }, (_, n) => n));
  });
});
