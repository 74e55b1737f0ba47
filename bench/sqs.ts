import {
  CreateQueueCommand,
  DeleteMessageBatchCommand,
  DeleteQueueCommand,
  ListQueuesCommand,
  ReceiveMessageCommand,
  SendMessageBatchCommand,
  SendMessageCommand,
  SQSClient,
} from "@aws-sdk/client-sqs";
import { createBroker, type Queue } from "anybroker";
import { type SqsOptions, sqs } from "anybroker/sqs";
import { freshQueue, ORDER, type Order } from "./body.ts";
import { type Comparison, callsPerSecond, countdown } from "./measure.ts";

const CALLERS = 100;
const SENT = 10_000;
const SENT_ALONE = 2_000;
const CONSUMED = 10_000;
const BATCH = 10;
const POLLS = 10;

/** Where to reach SQS. */
export type SqsPlace = Required<Pick<SqsOptions, "endpoint" | "region">> & { readonly credentials: RawCredentials };

interface RawCredentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

/** The adapter beside `@aws-sdk/client-sqs` used by hand, on one server. */
export function besideAwsSdk(place: SqsPlace): readonly Comparison[] {
  const perSecond = { unit: "messages/s", better: "higher", rounds: 7 } as const;
  const cpu = { unit: "µs of CPU/message", better: "lower", rounds: 7, target: 1 } as const;
  const ours = (run: () => Promise<number>) => ({ name: "anybroker/sqs", run });
  const byMessage = { name: "AWS SDK, a message a call" };
  const byHand = { name: `AWS SDK, by hand ${BATCH} × ${BATCH}` };
  const receiving = { name: `AWS SDK, ${POLLS} loops, receive and delete by tens` };
  return [
    {
      ...perSecond,
      title: "SQS, send, one caller",
      target: 0.9,
      theirs: { ...byMessage, run: () => rawSend(place, 1, SENT_ALONE) },
      ours: ours(() => sendOurs(place, 1, SENT_ALONE)),
    },
    {
      ...perSecond,
      title: `SQS, send, ${CALLERS} callers`,
      target: 4,
      theirs: { ...byMessage, run: () => rawSend(place, CALLERS, SENT) },
      ours: ours(() => sendOurs(place, CALLERS, SENT)),
    },
    {
      ...perSecond,
      title: `SQS, send, ${CALLERS} callers`,
      target: 0.9,
      theirs: { ...byHand, run: () => rawBatches(place, SENT) },
      ours: ours(() => sendOurs(place, CALLERS, SENT)),
    },
    {
      ...perSecond,
      title: "SQS, consume, ack after each handler",
      target: 0.9,
      theirs: { ...receiving, run: () => rawConsume(place, CONSUMED) },
      ours: ours(() => consumeOurs(place, CONSUMED)),
    },
    {
      ...cpu,
      title: `SQS, send, ${CALLERS} callers`,
      theirs: { ...byMessage, run: () => cpuOf(SENT, () => rawSend(place, CALLERS, SENT)) },
      ours: ours(() => cpuOf(SENT, () => sendOurs(place, CALLERS, SENT))),
    },
    {
      ...cpu,
      title: "SQS, send and consume",
      theirs: { ...receiving, run: () => cpuOf(CONSUMED, () => rawConsume(place, CONSUMED)) },
      ours: ours(() => cpuOf(CONSUMED, () => consumeOurs(place, CONSUMED))),
    },
  ];
}

/** Microseconds of this process's CPU for each message. */
async function cpuOf(messages: number, run: () => Promise<unknown>): Promise<number> {
  const before = process.cpuUsage();
  await run();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / messages;
}

/** A queue with the client that a careful user would have. */
async function withQueue(place: SqsPlace, use: (client: SQSClient, url: string) => Promise<number>): Promise<number> {
  const httpAgent = { keepAlive: true, maxSockets: 200 };
  const client = new SQSClient({ ...place, requestHandler: { httpAgent } });
  const QueueName = freshQueue("raw").name.replaceAll(".", "-");
  const { QueueUrl = "" } = await client.send(new CreateQueueCommand({ QueueName }));
  try {
    return await use(client, QueueUrl);
  } finally {
    await client.send(new DeleteQueueCommand({ QueueUrl }));
    client.destroy();
  }
}

function rawSend(place: SqsPlace, callers: number, messages: number): Promise<number> {
  return withQueue(place, (client, QueueUrl) =>
    callsPerSecond(callers, messages, () =>
      client.send(new SendMessageCommand({ QueueUrl, MessageBody: JSON.stringify(ORDER) })),
    ),
  );
}

async function sendBatches(client: SQSClient, QueueUrl: string, messages: number): Promise<number> {
  const calls = await callsPerSecond(BATCH, messages / BATCH, async () => {
    const Entries = Array.from({ length: BATCH }, (_, index) => ({
      Id: String(index),
      MessageBody: JSON.stringify(ORDER),
    }));
    const { Failed = [] } = await client.send(new SendMessageBatchCommand({ QueueUrl, Entries }));
    if (Failed.length > 0) throw new Error("a message was not stored");
  });
  return calls * BATCH;
}

function rawBatches(place: SqsPlace, messages: number): Promise<number> {
  return withQueue(place, (client, url) => sendBatches(client, url, messages));
}

async function withOurs(place: SqsPlace, use: (orders: Queue<Order>) => Promise<number>): Promise<number> {
  const orders = freshQueue("ours");
  try {
    return await use(orders);
  } finally {
    await remove(place, orders);
  }
}

function sendOurs(place: SqsPlace, callers: number, messages: number): Promise<number> {
  return withOurs(place, async (orders) => {
    const broker = createBroker(sqs(place), { destinations: [orders] });
    await broker.start();
    const perSecond = await callsPerSecond(callers, messages, () => broker.send(orders, ORDER));
    await broker.stop();
    return perSecond;
  });
}

function rawConsume(place: SqsPlace, messages: number): Promise<number> {
  return withQueue(place, async (client, QueueUrl) => {
    await sendBatches(client, QueueUrl, messages);
    const { tick, done } = countdown(messages);
    let handled = 0;
    const handle = async (order: Order): Promise<void> => {
      if (order.total > 0) handled++;
    };
    const loop = async (): Promise<void> => {
      while (handled < messages) {
        const { Messages = [] } = await client.send(
          new ReceiveMessageCommand({ QueueUrl, MaxNumberOfMessages: BATCH, WaitTimeSeconds: 1 }),
        );
        if (Messages.length === 0) continue;
        for (const { Body = "" } of Messages) await handle(JSON.parse(Body));
        const Entries = Messages.map(({ ReceiptHandle }, index) => ({ Id: String(index), ReceiptHandle }));
        await client.send(new DeleteMessageBatchCommand({ QueueUrl, Entries }));
        for (const _ of Messages) tick();
      }
    };
    const begin = performance.now();
    const loops = Array.from({ length: POLLS }, loop);
    await done;
    const perSecond = (messages * 1_000) / (performance.now() - begin);
    await Promise.all(loops);
    return perSecond;
  });
}

function consumeOurs(place: SqsPlace, messages: number): Promise<number> {
  return withOurs(place, async (orders) => {
    const filling = createBroker(sqs(place), { destinations: [orders] });
    await filling.start();
    await callsPerSecond(CALLERS, messages, () => filling.send(orders, ORDER));
    await filling.stop();
    const broker = createBroker(sqs({ ...place, waitSeconds: 1, maxPolls: POLLS }));
    await broker.start();
    const { tick, done } = countdown(messages);
    const begin = performance.now();
    broker.consume(
      orders,
      async (order) => {
        if (order.total > 0) tick();
      },
      { concurrency: CALLERS, prefetch: { messages: 2 * CALLERS } },
    );
    await done;
    const perSecond = (messages * 1_000) / (performance.now() - begin);
    await broker.stop();
    return perSecond;
  });
}

async function remove(place: SqsPlace, orders: Queue<Order>): Promise<void> {
  const client = new SQSClient(place);
  const QueueNamePrefix = orders.name.replaceAll(".", "_-");
  const { QueueUrls = [] } = await client.send(new ListQueuesCommand({ QueueNamePrefix }));
  for (const QueueUrl of QueueUrls) await client.send(new DeleteQueueCommand({ QueueUrl }));
  client.destroy();
}
