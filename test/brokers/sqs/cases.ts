import {
  CreateQueueCommand,
  DeleteMessageCommand,
  ListQueuesCommand,
  ReceiveMessageCommand,
  SendMessageCommand,
  SQSClient,
} from "@aws-sdk/client-sqs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { faultyLink } from "../faulty-link.ts";
import { controlsOrNotRun } from "../suite.ts";
import type { Namespace } from "./namespace.ts";
import type { RunningSQS } from "./running-sqs.ts";

/** What must hold of every server of SQS that a run can have. */
export function sqsCases(broker: RunningSQS): void {
  let place: Namespace;
  let client: SQSClient;

  beforeAll(() => {
    place = broker.newNamespace();
    client = clientOf(broker);
  });

  afterAll(async () => {
    client.destroy();
    await place.remove();
  });

  async function makeQueue(name: string, namespace = place): Promise<string> {
    const Attributes: Record<string, string> = name.endsWith(".fifo") ? { FifoQueue: "true" } : {};
    const made = await client.send(new CreateQueueCommand({ QueueName: `${namespace.namePrefix}${name}`, Attributes }));
    return made.QueueUrl ?? "";
  }

  async function store(queue: string, body: string): Promise<void> {
    await client.send(new SendMessageCommand({ QueueUrl: queue, MessageBody: body }));
  }

  async function take(queue: string): Promise<string | undefined> {
    const { Messages: [message] = [] } = await client.send(
      new ReceiveMessageCommand({ QueueUrl: queue, WaitTimeSeconds: 1 }),
    );
    if (!message) return undefined;
    await client.send(new DeleteMessageCommand({ QueueUrl: queue, ReceiptHandle: message.ReceiptHandle }));
    return message.Body;
  }

  async function queuesOf({ namePrefix }: Namespace): Promise<readonly string[]> {
    const { QueueUrls = [] } = await client.send(new ListQueuesCommand({ QueueNamePrefix: namePrefix }));
    return QueueUrls;
  }

  test("carries messages, and has no queue that was not asked for", async () => {
    const queue = await makeQueue("plain");
    await store(queue, "hello");
    expect(await take(queue)).toBe("hello");
    await expect(store(queue.replace("plain", "missing"), "hello")).rejects.toMatchObject({
      name: "QueueDoesNotExist",
    });
  });

  test("a namespace that is removed takes its queues with it, and no others", async () => {
    const other = broker.newNamespace();
    await makeQueue("mine");
    await makeQueue("mine", other);
    await makeQueue("mine.fifo", other);
    expect(await queuesOf(other)).toHaveLength(2);
    await other.remove();
    expect(await queuesOf(other)).toEqual([]);
    expect((await queuesOf(place)).map((url) => url.split("/").at(-1))).toContain(`${place.namePrefix}mine`);
  });

  test.for(["restart", "kill and start"] as const)("%s keeps the address and the data", async (fault, context) => {
    const controls = controlsOrNotRun(broker, context);
    expect(broker.durable).toBe(true);
    const queue = await makeQueue(fault.replaceAll(" ", "-"));
    await store(queue, "kept");
    if (fault === "restart") {
      await controls.restart();
    } else {
      await controls.kill();
      const impatient = clientOf(broker, { maxAttempts: 1 });
      await expect(impatient.send(new ListQueuesCommand())).rejects.toThrow();
      impatient.destroy();
      await controls.start();
    }
    await expect.poll(() => take(queue), { timeout: 60_000 }).toBe("kept");
  });

  test("a frozen server answers nothing, and goes on when thawed", async (context) => {
    const controls = controlsOrNotRun(broker, context);
    const queue = await makeQueue("frozen");
    await controls.pause();
    let answered = false;
    const answer = store(queue, "thawed").then(() => {
      answered = true;
    });
    try {
      // A request that runs into its own deadline shows that the server had the time to answer.
      const asked = client.send(new ListQueuesCommand(), { abortSignal: AbortSignal.timeout(1_000) });
      await expect(asked).rejects.toThrow();
      expect(answered).toBe(false);
    } finally {
      await controls.resume();
    }
    await answer;
    await expect.poll(() => take(queue), { timeout: 60_000 }).toBe("thawed");
  });

  test("clients come through a link, which can be cut", async () => {
    const queue = await makeQueue("linked");
    const link = await faultyLink(broker.url);
    const linked = clientOf(broker, { endpoint: link.through(broker.url), maxAttempts: 1 });
    const send = (body: string) => linked.send(new SendMessageCommand({ QueueUrl: queue, MessageBody: body }));
    try {
      link.refuse();
      await expect(send("during")).rejects.toThrow();
      link.restore();
      await send("after");
    } finally {
      linked.destroy();
      await link.close();
    }
    expect(await take(queue)).toBe("after");
  });
}

/** A client of the server, as any other. */
export function clientOf(broker: RunningSQS, options: { endpoint?: string; maxAttempts?: number } = {}): SQSClient {
  const { url, region, credentials } = broker;
  return new SQSClient({ endpoint: url, region, credentials, ...options });
}
