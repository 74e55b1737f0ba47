import { spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { afterAll, afterEach, beforeAll, beforeEach, expect, type TestContext, test } from "vitest";
import type { KafkaConnection } from "../../../../adapters/kafka/port.ts";
import type { FaultyLink } from "../../../brokers/faulty-link.ts";
import { freePort } from "../../../brokers/free-port.ts";
import type { Namespace } from "../../../brokers/kafka.ts";
import { controlsOrNotRun, describeKafka } from "../../../brokers/suite.ts";
import { until } from "../../../brokers/until.ts";
import { batchOf, connectionTo, idOf, makeTopics, refusal, valuesIn } from "./wire.ts";

describeKafka("kafkajs' connections", (broker) => {
  let place: Namespace;
  let topic: string;
  let topicId: string;
  let connection: KafkaConnection;
  let link: FaultyLink | undefined;
  const node = 1;

  beforeAll(async () => {
    place = broker.newNamespace();
    topic = `${place.namePrefix}log`;
    connection = connectionTo(broker.brokers);
    await makeTopics(connection, 1, topic);
    topicId = await idOf(connection, topic);
    await connection.close();
  });
  afterAll(() => place?.remove());
  beforeEach(async () => {
    link = await broker.faultyLink?.();
  });
  afterEach(async () => {
    await connection?.close();
    await link?.close();
  });

  const append = (...values: string[]) => connection.produce(node, [batchOf(topic, 0, ...values)], 1_000);
  const fetchFrom = async (offset: number, maxWaitMs: number) => {
    const partitions = [{ topic, topicId, partition: 0, offset, maxBytes: 10_000_000 }];
    const [fetched] = await connection.fetch(node, { maxWaitMs, minBytes: 1, maxBytes: 10_000_000, partitions });
    return fetched;
  };
  const end = async () => {
    const [listed] = await connection.listOffsets(node, [{ topic, partition: 0, at: "latest" }]);
    return listed?.offset ?? -1;
  };
  const linkOrNotRun = (context: TestContext): FaultyLink =>
    link ?? context.skip("NOT RUN: kafka was given by URL, and tells clients where to connect");

  test("a node is found without having asked for metadata, and one that is not there is unreachable", async () => {
    connection = connectionTo(broker.brokers);
    expect(await append("found")).toMatchObject([{ error: undefined }]);
    const error = await refusal(connection.heartbeat(77, { group: "g", memberId: "m", generation: 1 }));
    expect(error).toMatchObject({ code: "unreachable", message: expect.stringContaining("id 77") as string });
  });

  test("a wrong advertised.listeners is named, with the broker that has it", async (context) => {
    const linked = linkOrNotRun(context);
    // Without its link, nothing listens where that listener says that it is.
    await linked.close();
    link = undefined;
    const { record } = broker;
    if (record.how === "url") return;
    const bootstrap = `${record.linked.host}:${record.linked.port}`;
    connection = connectionTo([bootstrap]);
    const { code, message } = await refusal(append("lost"));
    expect(code).toBe("unreachable");
    expect(message).toMatch(/cannot be reached \(E\w+\)/);
    expect(message).toContain(`Kafka at ${bootstrap} names it so in its metadata: check advertised.listeners there`);
  });

  test("requests to a node are answered in the order in which they were made", async () => {
    connection = connectionTo(broker.brokers);
    const values = Array.from({ length: 50 }, (_, index) => `${index}`.padEnd(index % 2 === 0 ? 10 : 50_000));
    // The first ones find no socket yet.
    const outcomes = await Promise.all(values.map((value) => append(value)));
    const offsets = outcomes.map(([outcome]) => outcome?.baseOffset ?? -1);
    expect(offsets).toEqual(offsets.map((_, index) => (offsets[0] ?? -1) + index));
    const fetched = await fetchFrom(offsets[0] ?? -1, 1_000);
    expect(await valuesIn(fetched?.records ?? Buffer.alloc(0))).toEqual(values);
  });

  test("seed brokers are tried in turn", async (context) => {
    const silent = linkOrNotRun(context);
    silent.silence();
    const dead = `127.0.0.1:${await freePort()}`;
    const seeds = [dead, `127.0.0.1:${silent.port}`, ...broker.brokers];
    connection = connectionTo(seeds, { connectionTimeoutMs: 1_000 });
    await connection.connect();
    expect(await append("reached")).toMatchObject([{ error: undefined }]);
    const none = connectionTo([dead, `127.0.0.1:${silent.port}`], { connectionTimeoutMs: 1_000 });
    expect(await refusal(none.connect())).toMatchObject({ code: "unreachable" });
    await none.close();
  });

  test("one that is cut rejects what is under way, and the next call opens it anew", async (context) => {
    const cutting = linkOrNotRun(context);
    connection = connectionTo([`127.0.0.1:${cutting.port}`]);
    await fetchFrom(0, 0);
    const polling = refusal(fetchFrom(await end(), 600_000));
    await connection.metadata([]);
    cutting.cut();
    const error = await polling;
    expect(error.code).toBe("unreachable");
    expect(error.message).toContain("may have been done");
    expect((await fetchFrom(0, 0))?.error).toBeUndefined();
    // The other socket may not have heard of its end yet.
    await until("the other connection made anew", 30_000, async () => {
      expect(await append("after")).toMatchObject([{ error: undefined }]);
    });
  });

  test("one that falls silent is given up when an answer is late, long poll or not", async (context) => {
    const silent = linkOrNotRun(context);
    connection = connectionTo([`127.0.0.1:${silent.port}`], { requestTimeoutMs: 1_000, connectionTimeoutMs: 1_000 });
    await fetchFrom(0, 0);
    await append("before");
    const offset = await end();
    silent.silence();
    const refused = await Promise.all([
      refusal(append("during")),
      refusal(append("during")),
      refusal(fetchFrom(offset, 500)),
    ]);
    expect(refused.map(({ code }) => code)).toEqual(["timeout", "timeout", "timeout"]);
    expect(refused[0]?.message).toContain("Produce");
    // No new one can be opened either.
    expect(await refusal(append("still"))).toMatchObject({ code: "unreachable" });
    expect(await refusal(connection.metadata([]))).toMatchObject({ code: "timeout" });
    silent.restore();
    expect(await append("after")).toMatchObject([{ error: undefined }]);
    expect((await fetchFrom(0, 0))?.error).toBeUndefined();
  });

  test("a frozen broker times out, and answers again when it has thawed", async (context) => {
    const controls = controlsOrNotRun(broker, context);
    connection = connectionTo(broker.brokers, { requestTimeoutMs: 1_000, connectionTimeoutMs: 1_000 });
    await append("before");
    const fresh = connectionTo(broker.brokers, { requestTimeoutMs: 1_000, connectionTimeoutMs: 1_000 });
    await controls.pause();
    try {
      expect(await refusal(append("during"))).toMatchObject({ code: "timeout" });
      // Its machine takes connections all the same.
      expect(await refusal(fresh.connect())).toMatchObject({ code: "unreachable" });
    } finally {
      await controls.resume();
      await fresh.close();
    }
    // Frozen for long enough, it is taken for dead: it leads nothing and is not among the brokers until it is heard again.
    await until("it to take messages", 60_000, async () =>
      expect(await append("after")).toMatchObject([{ error: undefined }]),
    );
    await until("the broker to be one of the cluster again", 30_000, async () => {
      expect(await connection.metadata([])).toMatchObject({ nodes: [node] });
    });
  });

  test("closing rejects what is under way and what comes after", async () => {
    connection = connectionTo(broker.brokers);
    const offset = await end();
    const polling = refusal(fetchFrom(offset, 600_000));
    const unopened = connectionTo(broker.brokers);
    const connecting = refusal(unopened.connect());
    await Promise.all([connection.close(), connection.close(), unopened.close()]);
    for (const error of [
      await polling,
      await connecting,
      await refusal(append("late")),
      await refusal(connection.metadata([])),
    ]) {
      expect(error).toMatchObject({
        code: "unreachable",
        message: expect.stringContaining("has been closed") as string,
      });
    }
  });

  test("a program says nothing on its console, and ends once it has closed what it opened", async () => {
    const program = fileURLToPath(new URL("program.ts", import.meta.url));
    // kafkajs would take its level of logging from there.
    const env = { ...process.env, KAFKAJS_LOG_LEVEL: "debug", NODE_OPTIONS: "" };
    const child = spawn(process.execPath, [program, broker.brokers.join(","), topic], {
      env,
      stdio: ["ignore", "pipe", "pipe"],
    });
    const [stdout, stderr, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "exit")]);
    expect({ stdout, stderr, code: code as unknown }).toEqual({ stdout: "done\n", stderr: "", code: 0 });
  });
});
