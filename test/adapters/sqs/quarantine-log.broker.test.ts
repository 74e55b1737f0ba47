import { GetQueueAttributesCommand, GetQueueUrlCommand } from "@aws-sdk/client-sqs";
import { afterAll, expect, onTestFinished, test } from "vitest";
import type { SqsAdapter } from "../../../adapters/sqs/index.ts";
import { underPrefix } from "../../../adapters/sqs/names.ts";
import type { QuarantineLog, Topology } from "../../../core/adapter.ts";
import type { QueueAddress, WorkAddress } from "../../../core/address.ts";
import { clientOf } from "../../brokers/sqs/cases.ts";
import { describeFauxqs } from "../../brokers/suite.ts";
import { until } from "../../brokers/until.ts";
import { subscriptionOf, topology, workQueue } from "../seam-values.ts";
import { describeSQS, openAdapter, useAdapter } from "./open-adapter.ts";

const WAIT_MS = 240_000;

/** Reads until the log has these records and no others; an SQS queue may keep some from one reader for a while. */
async function holds(log: QuarantineLog, records: readonly string[]): Promise<void> {
  const wanted = [...records].sort();
  await until(`${records.length} records`, WAIT_MS, async () => {
    expect([...new Set(await log.read())].sort()).toEqual(wanted);
  });
}

const numbered = (name: string, count: number) => Array.from({ length: count }, (_, index) => `${name}-${index}`);
const queueOf = (name: string): QueueAddress => ({ kind: "queue", name });

describeSQS("the quarantine log", (broker) => {
  const { place, options, adapter } = useAdapter(broker);
  const client = clientOf(broker);

  afterAll(() => client.destroy());

  async function another(): Promise<SqsAdapter> {
    const other = await openAdapter(options);
    onTestFinished(() => other.close());
    return other;
  }

  async function declared(name: string, ordered = false): Promise<QueueAddress> {
    expect(await adapter().declare(topology({ queues: [workQueue(name, { ordered })] }))).toEqual([]);
    return queueOf(name);
  }

  async function urlOf(name: string): Promise<string> {
    const QueueName = underPrefix(place.namePrefix, name);
    const { QueueUrl = "" } = await client.send(new GetQueueUrlCommand({ QueueName }));
    return QueueUrl;
  }

  test.for([false, true])("has what two processes append, for each of them (ordered: %s)", async (ordered) => {
    const of = await declared(`shared-${ordered}`, ordered);
    const [one, other] = [adapter(), await another()].map((each) => each.quarantine(of)) as [
      QuarantineLog,
      QuarantineLog,
    ];
    expect(await one.read()).toEqual([]);
    const records = ['{"id":"a"}', "Zürich 🐰 \u0000", ...numbered("one", 11)];
    await Promise.all(records.map((record) => one.append(record)));
    await other.append("other");
    await holds(one, [...records, "other"]);
    await holds(other, [...records, "other"]);
    // Nobody takes anything from it: a process that comes later finds all of it.
    await holds((await another()).quarantine(of), [...records, "other"]);
  });

  test("is seen whole in the end by each of several who read it at once", async () => {
    const of = await declared("read-at-once");
    const records = numbered("record", 40);
    const writer = adapter().quarantine(of);
    await Promise.all(records.map((record) => writer.append(record)));
    const readers = await Promise.all([another(), another(), another()]);
    await Promise.all(readers.map((reader) => holds(reader.quarantine(of), records)));
  });

  test("of one queue holds nothing of another's", async () => {
    const [a, b] = [await declared("a.b"), await declared("a_b")];
    await adapter().quarantine(a).append("of a");
    await adapter().quarantine(b).append("of b");
    const reader = await another();
    await holds(reader.quarantine(a), ["of a"]);
    await holds(reader.quarantine(b), ["of b"]);
  });

  test.for([false, true])("keeps a record for a day, and moves none away (ordered: %s)", async (ordered) => {
    await declared(`kept-${ordered}`, ordered);
    const QueueUrl = await urlOf(`kept-${ordered}_-quarantine`);
    const { Attributes = {} } = await client.send(
      new GetQueueAttributesCommand({ QueueUrl, AttributeNames: ["MessageRetentionPeriod", "RedrivePolicy"] }),
    );
    expect(Attributes.RedrivePolicy ?? "").toBe("");
    // ElasticMQ does not tell.
    expect(Attributes.MessageRetentionPeriod ?? "86400").toBe("86400");
  });

  test.for([false, true])("is verified, and goes with its queue (ordered: %s)", async (ordered) => {
    const of = queueOf(`gone-${ordered}`);
    const queues = [workQueue(of.name, { ordered })];
    await checkLifeOf(await another(), of, topology({ queues }));
  });
});

describeFauxqs("the quarantine log of a subscription, on fauxqs", (broker) => {
  const { adapter, options } = useAdapter(broker);

  test.for([false, true])("is made, verified and removed with it (ordered: %s)", async (ordered) => {
    const name = `placed-${ordered}`;
    const subscription = { ...subscriptionOf(name, "billing"), ordered };
    const topics = [{ address: { kind: "topic", name } as const, ordered }];
    const other = await openAdapter(options);
    onTestFinished(() => other.close());
    expect(await adapter().declare(topology({ topics }))).toEqual([]);
    await checkLifeOf(other, subscription.address, topology({ topics, subscriptions: [subscription] }));
  });
});

/** Missing before it is declared; there, and in use, until it is removed. */
async function checkLifeOf(adapter: SqsAdapter, of: WorkAddress, wanted: Topology): Promise<void> {
  const log = adapter.quarantine(of);
  const missing = () => adapter.declare({ ...wanted, mode: "verify" });
  const named = expect.objectContaining({ code: "not-found", message: expect.stringMatching(/^quarantine log of /) });
  expect(await missing()).toContainEqual(named);
  await expect(log.read()).rejects.toMatchObject({ code: "not-found" });
  expect(await adapter.declare(wanted)).toEqual([]);
  expect(await missing()).toEqual([]);
  await log.append("a");
  await holds(log, ["a"]);
  expect(await adapter.depth({ kind: "quarantine", of })).toMatchObject({ exact: false });
  await adapter.remove(wanted);
  await until("its end", WAIT_MS, async () => {
    await expect(adapter.depth({ kind: "quarantine", of })).rejects.toMatchObject({ code: "not-found" });
  });
}
