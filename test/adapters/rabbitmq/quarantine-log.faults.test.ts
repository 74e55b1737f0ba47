import { afterAll, beforeAll, expect, test } from "vitest";
import type { QueueAddress } from "../../../core/address.ts";
import type { VirtualHost } from "../../brokers/rabbitmq.ts";
import { controlsOrNotRun, describeRabbitMQ } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";
import { topology, workQueue } from "../seam-values.ts";
import { openAdapter } from "./open-adapter.ts";

describeRabbitMQ("a quarantine log over the end of RabbitMQ", (broker) => {
  let place: VirtualHost;

  beforeAll(async () => {
    place = await broker.newVirtualHost();
  });
  afterAll(() => place?.remove());

  test.for(["restart", "kill"] as const)("what was appended before a %s is read after it", async (fault, context) => {
    const controls = controlsOrNotRun(broker, context);
    const of: QueueAddress = { kind: "queue", name: `${place.namePrefix}${fault}` };
    const { adapter, signals } = await openAdapter({ url: place.url });
    expect(await adapter.declare(topology({ queues: [workQueue(of.name, { ordered: true })] }))).toEqual([]);
    const log = adapter.quarantine(of);
    await log.append("before");
    expect(await log.read()).toEqual(["before"]);
    await broker.syncDeclarations?.();
    // Those that are under way when it ends may fail; none of them takes anything along.
    const reads = Promise.allSettled([log.read(), log.read()]);
    if (fault === "restart") await controls.restart();
    else {
      await controls.kill();
      await controls.start();
    }
    await reads;
    await until("the way back", 60_000, () => expect(signals.at(-1)).toBe("up"));
    await until("a record after it", 60_000, () => log.append("after"));
    expect(new Set(await until("a read", 60_000, () => log.read()))).toEqual(new Set(["before", "after"]));
    await adapter.close();
  });
});
