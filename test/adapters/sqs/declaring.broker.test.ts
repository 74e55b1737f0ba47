import {
  GetQueueAttributesCommand,
  GetQueueUrlCommand,
  ListQueuesCommand,
  type QueueAttributeName,
  SetQueueAttributesCommand,
} from "@aws-sdk/client-sqs";
import { afterAll, expect, test } from "vitest";
import { underPrefix } from "../../../adapters/sqs/names.ts";
import type { MessagingError } from "../../../core/errors.ts";
import { clientOf } from "../../brokers/sqs/cases.ts";
import { topology, workQueue } from "../seam-values.ts";
import { describeSQS, openAdapter, optionsOf, useAdapter } from "./open-adapter.ts";

const said = (problems: readonly MessagingError[]) => problems.map(({ message }) => message).join("\n");
const codes = (problems: readonly MessagingError[]) => [...new Set(problems.map(({ code }) => code))];

describeSQS("declaring queues", (broker) => {
  const { place, adapter } = useAdapter(broker, { maxReceives: 7, visibilityTimeoutMs: 7_000 });
  const { namePrefix } = place;
  const client = clientOf(broker);

  afterAll(() => client.destroy());

  const urlOf = async (name: string): Promise<string> => {
    const { QueueUrl = "" } = await client.send(new GetQueueUrlCommand({ QueueName: underPrefix(namePrefix, name) }));
    return QueueUrl;
  };
  const attributesOf = async (name: string, ...names: QueueAttributeName[]) => {
    const QueueUrl = await urlOf(name);
    const { Attributes = {} } = await client.send(new GetQueueAttributesCommand({ QueueUrl, AttributeNames: names }));
    return Attributes;
  };
  const redrive = async (name: string) => JSON.parse((await attributesOf(name, "RedrivePolicy")).RedrivePolicy ?? "{}");

  test("verify finds everything missing and makes nothing; create makes it; a second time changes nothing", async () => {
    const queues = [workQueue("a.b"), workQueue("c_d", { ordered: true })];
    const names = ["a_-b", "a_-b_-dlq", "a_-b_-quarantine", "c__d.fifo", "c__d_-dlq.fifo", "c__d_-quarantine"].map(
      (name) => underPrefix(namePrefix, name),
    );
    const missing = await adapter().declare(topology({ mode: "verify", queues }));
    expect(codes(missing)).toEqual(["not-found"]);
    for (const name of names) expect(said(missing)).toContain(`"${name}"`);
    const existing = async () => {
      const { QueueUrls = [] } = await client.send(new ListQueuesCommand({ QueueNamePrefix: namePrefix }));
      return QueueUrls.map((url) => url.split("/").at(-1)).sort();
    };
    expect(await existing()).toEqual([]);
    expect(await adapter().declare(topology({ queues }))).toEqual([]);
    expect(await existing()).toEqual(names.sort());
    const before = await Promise.all(["a_-b", "c__d.fifo"].map((name) => attributesOf(name, "All")));
    expect(await adapter().declare(topology({ queues }))).toEqual([]);
    expect(await adapter().declare(topology({ mode: "verify", queues }))).toEqual([]);
    expect(await Promise.all(["a_-b", "c__d.fifo"].map((name) => attributesOf(name, "All")))).toEqual(before);
    expect(await existing()).toEqual(names.sort());
    expect(await attributesOf("a_-b", "VisibilityTimeout")).toEqual({ VisibilityTimeout: "7" });
    for (const [name, dead] of [
      ["a_-b", "a_-b_-dlq"],
      ["c__d.fifo", "c__d_-dlq.fifo"],
    ] as const) {
      const { deadLetterTargetArn, maxReceiveCount } = await redrive(name);
      expect(deadLetterTargetArn).toBe((await attributesOf(dead, "QueueArn")).QueueArn);
      expect(Number(maxReceiveCount)).toBe(7);
    }
  });

  test("two processes may declare the same at the same moment", async () => {
    const others = await Promise.all([1, 2, 3].map(() => openAdapter(optionsOf(broker, place))));
    try {
      const all = await Promise.all(others.map((one) => one.declare(topology({ queues: [workQueue("race")] }))));
      expect(all).toEqual([[], [], []]);
      expect((await redrive("race")).deadLetterTargetArn).toBe((await attributesOf("race_-dlq", "QueueArn")).QueueArn);
    } finally {
      await Promise.all(others.map((one) => one.close()));
    }
  });

  test.for([false, true])("a queue of the other kind is a conflict (asked for order: %s)", async (ordered) => {
    const name = `kind-${ordered}`;
    expect(await adapter().declare(topology({ queues: [workQueue(name, { ordered: !ordered })] }))).toEqual([]);
    for (const mode of ["create", "verify"] as const) {
      const problems = await adapter().declare(topology({ mode, queues: [workQueue(name, { ordered })] }));
      expect(codes(problems)).toContain("conflict");
      expect(said(problems)).toContain(`queue "${name}" exists on SQS as ${ordered ? "a standard" : "a FIFO"} queue`);
    }
  });

  test("a redrive policy to another queue is a conflict, and stays", async () => {
    expect(await adapter().declare(topology({ queues: [workQueue("mine"), workQueue("other")] }))).toEqual([]);
    const { QueueArn } = await attributesOf("other", "QueueArn");
    const RedrivePolicy = JSON.stringify({ deadLetterTargetArn: QueueArn, maxReceiveCount: 3 });
    await client.send(new SetQueueAttributesCommand({ QueueUrl: await urlOf("mine"), Attributes: { RedrivePolicy } }));
    for (const mode of ["create", "verify"] as const) {
      const problems = await adapter().declare(topology({ mode, queues: [workQueue("mine"), workQueue("other")] }));
      expect(codes(problems)).toEqual(["conflict"]);
      expect(said(problems)).toContain('queue "mine" redrives to another queue');
    }
    expect((await redrive("mine")).deadLetterTargetArn).toBe(QueueArn);
  });
});
