import { afterAll, expect, test } from "vitest";
import { controlsOrNotRun, describeKafka } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";
import { topology, workQueue } from "../seam-values.ts";
import { openAdapter } from "./open-adapter.ts";

const WAIT_MS = 240_000;

describeKafka("quarantine logs on Kafka, when the server goes", (broker) => {
  const names = broker.newNamespace();
  afterAll(() => names.remove());

  test("say so while it is away, and hold everything that was confirmed when it is back", async (context) => {
    const controls = controlsOrNotRun(broker, context);
    const session = await openAdapter({ brokers: broker.brokers, requestTimeoutMs: 2_000 });
    const queue = workQueue(`${names.namePrefix}killed`);
    // A busy server may need longer than one request for the leaders of new topics.
    await until("the topics to have leaders", WAIT_MS, async () => {
      expect(await session.adapter.declare(topology({ queues: [queue] }))).toEqual([]);
    });
    const log = session.adapter.quarantine(queue.address);
    await log.append("before");
    await controls.kill();
    const [reading, appending] = await Promise.allSettled([log.read(), log.append("meanwhile")]);
    expect(reading).toMatchObject({
      status: "rejected",
      reason: { code: expect.stringMatching(/^(unreachable|timeout)$/) },
    });
    expect(appending).toMatchObject({
      status: "rejected",
      reason: { code: expect.stringMatching(/^(unreachable|timeout)$/) },
    });
    await controls.start();
    await until("a record to be confirmed", WAIT_MS, () => log.append("after"));
    const records = await until("the log to be read", WAIT_MS, () => log.read());
    expect(records).toEqual(expect.arrayContaining(["before", "after"]));
    await session.adapter.close();
  });
});
