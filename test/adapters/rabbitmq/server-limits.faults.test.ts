import { afterAll, expect, test } from "vitest";
import { rabbitmq } from "../../../adapters/rabbitmq/index.ts";
import { createBroker } from "../../../core/create-broker.ts";
import { queue } from "../../../core/destination.ts";
import { describeRabbitMQ } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";
import { useVirtualHost } from "../conformance/virtual-host.ts";
import { codeOf, message, topology, workQueue } from "../seam-values.ts";
import { keepingSink, openAdapter } from "./open-adapter.ts";

const FRAME_MAX = 8_192;
const CHANNEL_MAX = 12;

describeRabbitMQ("limits that the server gives a connection", (broker) => {
  const host = useVirtualHost(broker);
  const { rabbitmqctl } = broker;
  const set = (name: string, value: number) => rabbitmqctl?.("eval", `application:set_env(rabbit, ${name}, ${value}).`);

  afterAll(async () => {
    await set("frame_max", 131_072);
    await set("channel_max", 2_047);
  });

  test("headers over the longest frame are refused unsent, and disturb no other message", async (context) => {
    if (!rabbitmqctl) return context.skip("NOT RUN: rabbitmq was given by URL, rabbitmqctl cannot be used");
    await set("frame_max", FRAME_MAX);
    const session = await openAdapter({ url: host().url });
    await set("frame_max", 131_072);
    const { address } = workQueue(`${host().namePrefix}frames`);
    expect(await session.adapter.declare(topology({ queues: [workQueue(address.name)] }))).toEqual([]);
    const withHeader = (id: string, bytes: number) => message(id, { headers: { h: "x".repeat(bytes) } });
    const [tooLong, ...others] = await session.send(
      address,
      withHeader("long", FRAME_MAX),
      ...Array.from({ length: 200 }, (_, index) => message(`beside-${index}`)),
    );
    expect(codeOf(tooLong)).toBe("too-large");
    expect(tooLong).toMatchObject({ error: { message: expect.stringMatching(/frame of \d+ bytes.*accepts 8192/) } });
    expect(new Set(others.map(codeOf))).toEqual(new Set(["confirmed"]));
    // To the byte: the longest that is not refused is taken by the server.
    let [low, high] = [FRAME_MAX - 1_000, FRAME_MAX];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      const [result] = await session.send(address, withHeader(`m-${middle}`, middle));
      if (codeOf(result) === "confirmed") low = middle;
      else {
        expect(codeOf(result)).toBe("too-large");
        high = middle;
      }
    }
    expect(low).toBeGreaterThan(FRAME_MAX - 300);
    expect(session.signals).toEqual([]);
    await session.adapter.close();
  });

  test("too many consumers for the channels of a connection are told as what they are", async (context) => {
    if (!rabbitmqctl) return context.skip("NOT RUN: rabbitmq was given by URL, rabbitmqctl cannot be used");
    const { address } = workQueue(`${host().namePrefix}channels`);
    await set("channel_max", CHANNEL_MAX);
    const session = await openAdapter({ url: host().url });
    await set("channel_max", 2_047);
    expect(await session.adapter.declare(topology({ queues: [workQueue(address.name)] }))).toEqual([]);
    const receivers: Awaited<ReturnType<typeof session.adapter.receive>>[] = [];
    let refusal: unknown;
    while (refusal === undefined && receivers.length <= CHANNEL_MAX) {
      const { sink } = keepingSink();
      await session.adapter.receive(address, { prefetch: 1, ordered: false }, sink).then(
        (receiver) => receivers.push(receiver),
        (error: unknown) => {
          refusal = error;
        },
      );
    }
    expect(refusal).toMatchObject({
      code: "overloaded",
      message: expect.stringMatching(/12 channels .*channel_max/),
    });
    // Neither is the connection broken for it.
    await expect(session.adapter.depth(address)).rejects.toMatchObject({ code: "overloaded" });
    await receivers[0]?.close();
    await until("a channel that is free", 60_000, () => session.adapter.depth(address));
    expect(session.signals).toEqual([]);
    await session.adapter.close();
  });

  test("consumers that begin together do not take each other's channels", async (context) => {
    if (!rabbitmqctl) return context.skip("NOT RUN: rabbitmq was given by URL, rabbitmqctl cannot be used");
    await set("channel_max", CHANNEL_MAX);
    const broker = createBroker(rabbitmq({ url: host().url }));
    const consume = (index: number) => broker.consume(queue(`${host().namePrefix}crowd-${index}`), () => {});
    consume(0);
    // It takes more operations than there are channels.
    await broker.start();
    await set("channel_max", 2_047);
    for (let index = 1; index < CHANNEL_MAX + 3; index++) consume(index);
    // The others, which begin again and again, need some.
    await until("consumers to use the channels", 240_000, () => {
      const states = broker.status().consumers.map(({ state }) => state);
      expect(states.filter((state) => state === "running").length).toBeGreaterThanOrEqual(CHANNEL_MAX / 2);
    });
    await broker.stop();
  });
});
