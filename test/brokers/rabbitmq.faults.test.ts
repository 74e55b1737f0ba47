import { connect } from "amqplib";
import { afterAll, beforeAll, expect, test } from "vitest";
import { faultyLink } from "./faulty-link.ts";
import type { VirtualHost } from "./rabbitmq.ts";
import { controlsOrNotRun, describeRabbitMQ } from "./suite.ts";

describeRabbitMQ("RabbitMQ to test against", (broker) => {
  let place: VirtualHost;

  beforeAll(async () => {
    place = await broker.newVirtualHost();
  });

  afterAll(async () => {
    await place.remove();
  });

  const queueName = (name: string) => `${place.namePrefix}${name}`;

  async function store(url: string, queue: string, body: string): Promise<void> {
    const connection = await connect(url);
    const channel = await connection.createConfirmChannel();
    await channel.assertQueue(queue, { durable: true, arguments: { "x-queue-type": "quorum" } });
    channel.sendToQueue(queue, Buffer.from(body), { persistent: true });
    await channel.waitForConfirms();
    await connection.close();
  }

  async function take(url: string, queue: string): Promise<string | undefined> {
    const connection = await connect(url);
    try {
      const channel = await connection.createChannel();
      const message = await channel.get(queue, { noAck: true });
      return message === false ? undefined : message.content.toString();
    } finally {
      await connection.close();
    }
  }

  test("says its version and carries messages", async () => {
    expect(broker.version).toMatch(/^\d+\.\d+/);
    await store(place.url, queueName("plain"), "hello");
    expect(await take(place.url, queueName("plain"))).toBe("hello");
  });

  test("two places do not see each other's queues", async () => {
    const other = await broker.newVirtualHost();
    try {
      await store(place.url, queueName("mine"), "here");
      await store(other.url, `${other.namePrefix}mine`, "there");
      expect(await take(place.url, queueName("mine"))).toBe("here");
    } finally {
      await other.remove();
    }
  });

  test.for(["restart", "kill and start"] as const)("%s keeps the URL and the data", async (fault, context) => {
    const controls = controlsOrNotRun(broker, context);
    const queue = queueName(fault);
    await store(place.url, queue, "kept");
    if (fault === "restart") {
      await controls.restart();
    } else {
      await broker.syncDeclarations?.();
      await controls.kill();
      await expect(connect(place.url, { timeout: 5_000 })).rejects.toThrow();
      await controls.start();
    }
    await expect.poll(() => take(place.url, queue).catch(() => undefined), { timeout: 240_000 }).toBe("kept");
  });

  test("a frozen broker answers nothing, and goes on when thawed", async (context) => {
    const controls = controlsOrNotRun(broker, context);
    const connection = await connect(place.url);
    const channel = await connection.createChannel();
    await controls.pause();
    let answered = false;
    const answer = channel.assertQueue(queueName("frozen"), { durable: true }).then(() => {
      answered = true;
    });
    try {
      // A connection attempt that runs into its own deadline shows that the broker had the time to answer.
      await expect(connect(place.url, { timeout: 1_000 })).rejects.toThrow();
      expect(answered).toBe(false);
    } finally {
      await controls.resume();
    }
    await answer;
    await connection.close();
  });

  test("a link in between can be cut", async () => {
    const link = await faultyLink(broker.url);
    try {
      const connection = await connect(link.through(place.url));
      const ended = new Promise((resolve) => connection.once("close", resolve));
      connection.on("error", () => undefined);
      link.cut();
      await ended;
      await (await connect(link.through(place.url))).close();
    } finally {
      await link.close();
    }
  });

  test("rabbitmqctl speaks to this server", async (context) => {
    if (!broker.rabbitmqctl) return context.skip("NOT RUN: rabbitmq was given by URL, rabbitmqctl cannot be used");
    expect(await broker.rabbitmqctl("list_vhosts")).toContain(new URL(place.url).pathname.slice(1));
  });
});
