import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from "vitest";
import { type FaultyLink, faultyLink } from "../../brokers/faulty-link.ts";
import type { VirtualHost } from "../../brokers/rabbitmq.ts";
import { controlsOrNotRun, describeRabbitMQ } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";
import { codeOf, message, topology, workQueue } from "../seam-values.ts";
import { keepingSink, openAdapter } from "./open-adapter.ts";

describeRabbitMQ("losing RabbitMQ and getting it back", (broker) => {
  let place: VirtualHost;
  let link: FaultyLink;
  let session: Awaited<ReturnType<typeof openAdapter>>;
  const orders = () => ({ kind: "queue", name: `${place.namePrefix}orders` }) as const;

  beforeAll(async () => {
    place = await broker.newVirtualHost();
    link = await faultyLink(place.url);
  });
  afterAll(async () => {
    await link?.close();
    await place?.remove();
  });
  beforeEach(async () => {
    session = await openAdapter({
      url: link.through(place.url),
      heartbeatSeconds: 1,
      requestTimeoutMs: 10_000,
      connectTimeoutMs: 5_000,
    });
    expect(await session.adapter.declare(topology({ queues: [workQueue(orders().name)] }))).toEqual([]);
  });
  afterEach(async () => {
    link.restore();
    await session?.adapter.close();
  });

  async function confirmedSend(id: string): Promise<void> {
    await until("a confirmed publish", 60_000, async () => {
      const [result] = await session.send(orders(), message(id));
      expect(codeOf(result)).toBe("confirmed");
    });
  }

  /** Everything on the queue, acknowledged. */
  async function takeAll(until_: (ids: ReadonlySet<string>) => void): Promise<ReadonlySet<string>> {
    const { kept, sink } = keepingSink();
    const receiver = await session.adapter.receive(orders(), { prefetch: 5_000, ordered: false }, sink);
    const ids = new Set<string>();
    await until("the messages", 60_000, async () => {
      const batch = kept.splice(0);
      for (const { id } of batch) ids.add(id);
      await receiver.settle(batch.map(({ token }) => ({ token, action: "ack" as const })));
      until_(ids);
    });
    await receiver.close();
    return ids;
  }

  test("connections cut amid publishing: every message is answered once, and what was confirmed is there", async () => {
    const sends = Array.from({ length: 2_000 }, (_, index) => {
      if (index === 1_000) setImmediate(() => link.cut());
      return session
        .send(orders(), message(`cut-${index}`))
        .then(([result]) => [`cut-${index}`, codeOf(result)] as const);
    });
    const results = await Promise.all(sends);
    const codes = new Set(results.map(([, code]) => code));
    for (const code of codes) expect(["confirmed", "unknown"]).toContain(code);
    expect(codes).toContain("unknown");
    const confirmed = results.filter(([, code]) => code === "confirmed").map(([id]) => id);
    await until("the way back", 60_000, () => expect(session.signals).toEqual(["down", "up"]));
    await confirmedSend("after");
    await takeAll((ids) => {
      for (const id of [...confirmed, "after"]) expect(ids).toContain(id);
    });
  });

  test("a half-open connection is noticed by its heartbeats; unsettled deliveries are lost and come again", async () => {
    const { kept, lost, sink } = keepingSink();
    const receiver = await session.adapter.receive(orders(), { prefetch: 5, ordered: false }, sink);
    await confirmedSend("held");
    await until("the delivery", 60_000, () => expect(kept).toHaveLength(1));
    const [first] = kept;
    link.silence();
    const unanswered = session.send(orders(), message("into the silence"));
    await until("the loss", 60_000, () => expect(lost).not.toHaveLength(0));
    expect((await unanswered).map(codeOf)).toEqual(["unknown"]);
    expect((await session.send(orders(), message("while down"))).map(codeOf)).toEqual(["unknown"]);
    // A link that was silenced gives up its old connections' bytes late, as a network does.
    link.restore();
    await until("the redelivery", 60_000, () =>
      expect(kept.filter(({ id }) => id === "held").length).toBeGreaterThan(1),
    );
    const again = kept.findLast(({ id }) => id === "held");
    expect(again?.redeliveries).toBeGreaterThan(0);
    expect(await receiver.settle([{ token: first?.token, action: "ack" }])).toEqual(["fenced"]);
    expect(await receiver.settle([{ token: again?.token, action: "ack" }])).toEqual(["settled"]);
    expect(await receiver.settle([{ token: again?.token, action: "ack" }])).toEqual(["fenced"]);
    await receiver.close();
    await takeAll(() => {});
  });

  test("connections closed by an operator come back", async (context) => {
    if (broker.rabbitmqctl === undefined) {
      context.skip("NOT RUN: RabbitMQ was given by URL, so rabbitmqctl cannot be run");
      return;
    }
    const vhost = decodeURIComponent(new URL(place.url).pathname.slice(1));
    await broker.rabbitmqctl("close_all_connections", "--vhost", vhost, "a test");
    await until("the way back", 60_000, () => expect(session.signals).toEqual(["down", "up"]));
    await confirmedSend("operator");
    await takeAll((ids) => expect(ids).toContain("operator"));
  });

  test("a restarted broker has what was confirmed, and the receiver goes on by itself", async (context) => {
    const controls = controlsOrNotRun(broker, context);
    await confirmedSend("before");
    const { kept, sink } = keepingSink();
    const receiver = await session.adapter.receive(orders(), { prefetch: 50, ordered: false }, sink);
    await until("the first delivery", 60_000, () => expect(kept.map(({ id }) => id)).toContain("before"));
    await controls.restart();
    await until("the way back", 60_000, () => expect(session.signals.at(-1)).toBe("up"));
    await confirmedSend("after");
    await until("both", 60_000, () => {
      const ids = kept.map(({ id }) => id);
      expect(ids.filter((id) => id === "before").length).toBeGreaterThan(1);
      expect(ids).toContain("after");
    });
    await receiver.close();
    await takeAll((ids) => expect(ids).toContain("after"));
  });

  test("an event loop that stood still for longer than the heartbeats allow is survived", async () => {
    const { kept, sink } = keepingSink();
    const receiver = await session.adapter.receive(orders(), { prefetch: 5, ordered: false }, sink);
    const end = performance.now() + 6_000;
    while (performance.now() < end) Math.sqrt(end);
    await until("the way back", 60_000, () => expect(session.signals.at(-1)).toBe("up"));
    await confirmedSend("awake");
    await until("the delivery", 60_000, () => expect(kept.map(({ id }) => id)).toContain("awake"));
    await receiver.close();
    await takeAll((ids) => expect(ids).toContain("awake"));
  });

  test("in an alarm publishing is blocked and consuming goes on", async (context) => {
    if (broker.rabbitmqctl === undefined) {
      context.skip("NOT RUN: RabbitMQ was given by URL, so rabbitmqctl cannot be run");
      return;
    }
    await confirmedSend("before the alarm");
    const before = await broker.rabbitmqctl("eval", "vm_memory_monitor:get_vm_memory_high_watermark().");
    await broker.rabbitmqctl("set_vm_memory_high_watermark", "absolute", "1");
    let answered: string | undefined;
    const pending = session.send(orders(), message("in the alarm")).then(([result]) => {
      answered = codeOf(result);
    });
    try {
      await until("the block", 60_000, () => expect(session.signals).toContain("blocked"));
      await takeAll((ids) => expect(ids).toContain("before the alarm"));
      expect(answered).toBeUndefined();
    } finally {
      const restored = /absolute,\s*(\d+)/.exec(before)?.[1];
      if (restored === undefined) await broker.rabbitmqctl("set_vm_memory_high_watermark", before.trim());
      else await broker.rabbitmqctl("set_vm_memory_high_watermark", "absolute", restored);
    }
    await until("the end of the block", 60_000, () => expect(session.signals).toContain("unblocked"));
    await pending;
    expect(answered).toBe("confirmed");
    await takeAll((ids) => expect(ids).toContain("in the alarm"));
  });

  test("closed in the midst of publishing, every message is answered, and it opens again", async () => {
    const sends = Array.from({ length: 200 }, (_, index) => session.send(orders(), message(`closing-${index}`)));
    await Promise.all([session.adapter.close(), session.adapter.close()]);
    const codes = (await Promise.all(sends)).map(([result]) => codeOf(result));
    for (const code of codes) expect(["confirmed", "unknown"]).toContain(code);
    expect((await session.send(orders(), message("closed"))).map(codeOf)).toEqual(["unknown"]);
    await session.adapter.open({ up() {}, down() {}, blocked() {}, unblocked() {}, notice() {} });
    await confirmedSend("open again");
    await takeAll((ids) => expect(ids).toContain("open again"));
  });
});
