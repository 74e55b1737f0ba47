import { connect } from "amqplib";
import { afterAll, beforeAll, expect, test } from "vitest";
import { rabbitmq } from "../../../adapters/rabbitmq/index.ts";
import { serverVersion } from "../../../adapters/rabbitmq/server-version.ts";
import type { VirtualHost } from "../../brokers/rabbitmq.ts";
import { describeRabbitMQ } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";
import { message, subscriptionOf, topology, workQueue } from "../seam-values.ts";
import { keepingSink, openAdapter } from "./open-adapter.ts";

const NO_SIGNALS = { up() {}, down() {}, blocked() {}, unblocked() {}, notice() {} };

describeRabbitMQ("declaring on RabbitMQ", (broker) => {
  let place: VirtualHost;
  let session: Awaited<ReturnType<typeof openAdapter>>;

  beforeAll(async () => {
    place = await broker.newVirtualHost();
    session = await openAdapter({ url: place.url });
  });
  afterAll(async () => {
    await session?.adapter.close();
    await place?.remove();
  });

  const named = (name: string) => `${place.namePrefix}${name}`;

  test("verify finds everything missing, and nothing after create", async () => {
    const wanted = { queues: [workQueue(named("v"))], subscriptions: [subscriptionOf(named("t"), "s", "geo.#")] };
    const before = await session.adapter.declare(topology({ ...wanted, mode: "verify" }));
    expect(before.map(({ code }) => code)).toEqual(before.map(() => "not-found"));
    for (const name of ["v", "v.dlq", "v.quarantine", "t", "t..s", "t..s.dlq", "t..s.quarantine"]) {
      expect(before.some((problem) => problem.message.includes(`"${named(name)}"`))).toBe(true);
    }
    expect(await session.adapter.declare(topology(wanted))).toEqual([]);
    expect(await session.adapter.declare(topology(wanted))).toEqual([]);
    expect(await session.adapter.declare(topology({ ...wanted, mode: "verify" }))).toEqual([]);
  });

  test("none looks at nothing", async () => {
    expect(await session.adapter.declare(topology({ mode: "none", queues: [workQueue(named("nowhere"))] }))).toEqual(
      [],
    );
    await expect(session.adapter.depth({ kind: "queue", name: named("nowhere") })).rejects.toMatchObject({
      code: "not-found",
    });
  });

  test("a queue of other properties is a conflict that names what differs, and hides no other problem", async () => {
    expect(await session.adapter.declare(topology({ queues: [workQueue(named("c"), { ttlMs: 1_000 })] }))).toEqual([]);
    const problems = await session.adapter.declare(
      topology({ queues: [workQueue(named("c"), { ttlMs: 2_000 }), workQueue(named("d"), { ttlMs: 2 ** 33 })] }),
    );
    expect(problems.map(({ code }) => code).sort()).toEqual(["conflict", "unsupported"]);
    expect(problems.map((problem) => problem.message).join()).toContain("x-message-ttl");
  });

  test("priorities are strict where the server has them, and refused by name elsewhere", async () => {
    const queue = workQueue(named("p"), { priorities: 28 });
    const problems = await session.adapter.declare(topology({ queues: [queue] }));
    if (!serverVersion(broker.version).atLeast(4, 3)) {
      expect(problems.map(({ code }) => code)).toEqual(["unsupported"]);
      expect(problems[0]?.message).toContain(broker.version);
      return;
    }
    expect(problems).toEqual([]);
    const priorities = [0, 7, 27, 3];
    await session.send(queue.address, ...priorities.map((priority) => message(`p${priority}`, { priority })));
    const { kept, sink } = keepingSink();
    const receiver = await session.adapter.receive(queue.address, { prefetch: 10, ordered: false }, sink);
    await until("all priorities", 30_000, () => expect(kept).toHaveLength(4));
    await receiver.close();
    expect(kept.map(({ priority }) => priority ?? 0)).toEqual([27, 7, 3, 0]);
  });

  test("what expires goes to the dead letters, and says why", async () => {
    const address = { kind: "queue", name: named("ttl") } as const;
    expect(await session.adapter.declare(topology({ queues: [{ ...workQueue(address.name), ttlMs: 50 }] }))).toEqual(
      [],
    );
    await session.send(address, message("old"));
    const { kept, sink } = keepingSink();
    const receiver = await session.adapter.receive(
      { kind: "dead-letters", of: address },
      { prefetch: 1, ordered: false },
      sink,
    );
    await until("the dead letter", 30_000, () => expect(kept).toHaveLength(1));
    await receiver.close();
    expect({ ...kept[0]?.headers }).toMatchObject({
      "anybroker-dead-reason": "expired",
      "anybroker-dead-origin": `queue "${address.name}"`,
    });
  });

  test("a queue deleted while it is consumed from is made again", async () => {
    const { address } = workQueue(named("deleted"));
    expect(await session.adapter.declare(topology({ queues: [workQueue(address.name)] }))).toEqual([]);
    const { kept, lost, sink } = keepingSink();
    const receiver = await session.adapter.receive(address, { prefetch: 5, ordered: false }, sink);
    const connection = await connect(place.url);
    const channel = await connection.createChannel();
    await channel.deleteQueue(address.name);
    await connection.close();
    await until("the cancel", 30_000, () => expect(lost).not.toHaveLength(0));
    await until("a delivery from the new queue", 30_000, async () => {
      const [result] = await session.send(address, message("after"));
      expect(result?.status).toBe("confirmed");
      expect(kept.map(({ id }) => id)).toContain("after");
    });
    await receiver.close();
  });

  test("wrong credentials are unauthorized at once, and a closed port is unreachable by name", async () => {
    const url = new URL(place.url);
    url.password = "canary-password";
    const refused = await rabbitmq({ url: url.href })
      .open(NO_SIGNALS)
      .catch((error: unknown) => error);
    expect(refused).toMatchObject({ code: "unauthorized" });
    expect(String((refused as Error).stack)).not.toContain("canary-password");
    const closed = rabbitmq({ url: "amqp://127.0.0.1:1" });
    await expect(closed.open(NO_SIGNALS)).rejects.toMatchObject({
      code: "unreachable",
      message: expect.stringContaining("127.0.0.1:1"),
    });
    await closed.close();
  });
});
