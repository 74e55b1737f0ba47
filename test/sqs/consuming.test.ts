import type { MessageAttributeValue } from "@aws-sdk/client-sqs";
import {
  type BrokerOptions,
  createBroker,
  type Handler,
  HEADER,
  type Queue,
  queue,
  type SubscribeOptions,
  topic,
} from "anybroker";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import type { SqsOptions } from "../../adapters/sqs/index.ts";
import { bringing, Feed, received } from "./feed.ts";
import { eventually, unopened } from "./opened.ts";
import { headersOf } from "./outgoing.ts";
import { ScriptedAccount, topicArn } from "./scripted-account.ts";
import { entriesOf, type ScriptedAws } from "./scripted-aws.ts";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

const orders = queue<object>("orders");
const ordered = queue<object>("orders", { ordered: true });

interface Given {
  readonly handler?: Handler<object>;
  readonly from?: Queue<object>;
  readonly sqs?: SqsOptions;
  readonly broker?: BrokerOptions;
}

/** A broker object that consumes from a scripted queue; it ends with the test. */
async function consuming({ handler = () => {}, from = orders, sqs = {}, broker: options = {} }: Given = {}) {
  const { aws, adapter } = await unopened(sqs);
  if (from.options.ordered) onlyFifo(aws);
  const feed = new Feed(aws);
  const broker = createBroker(adapter, { declare: "none", ...options });
  const consumer = broker.consume(from, handler);
  onTestFinished(() => broker.stop({ timeoutMs: 1 }));
  await broker.start();
  return { aws, adapter, feed, broker, consumer };
}

function onlyFifo(aws: ScriptedAws): void {
  aws.on("GetQueueUrl", ({ QueueName }) =>
    String(QueueName).endsWith(".fifo")
      ? { output: { QueueUrl: `${aws.url}/0/${QueueName}` } }
      : { error: "QueueDoesNotExist" },
  );
}

function fake(...toFake: ("Date" | "performance")[]): void {
  vi.useFakeTimers({ toFake, now: Date.now() });
  onTestFinished(() => {
    vi.useRealTimers();
  });
}

/** Resolves when some more polls came back. */
async function polled(aws: ScriptedAws): Promise<void> {
  const polls = aws.inputs("ReceiveMessage").length;
  await eventually(() => aws.inputs("ReceiveMessage").length > polls + 6);
}

const receipts = (entries: readonly Record<string, unknown>[]) =>
  entries.map(({ ReceiptHandle }) => ReceiptHandle).sort();

describe("the quota of messages in flight", () => {
  test.for([
    [false, 120_000],
    [true, 20_000],
  ] as const)("is in the status of a consumer (ordered: %s, from %i on)", async ([fifo, quota]) => {
    fake("Date", "performance");
    const { aws, consumer } = await consuming({ from: fifo ? ordered : orders });
    const counts = { ApproximateNumberOfMessages: "5", ApproximateNumberOfMessagesNotVisible: String(quota - 1) };
    aws.on("GetQueueAttributes", () => ({ output: { Attributes: counts } }));
    const look = async () => {
      const looks = aws.inputs("GetQueueAttributes").length;
      vi.advanceTimersByTime(MINUTE_MS);
      await eventually(() => aws.inputs("GetQueueAttributes").length > looks);
    };
    await look();
    await polled(aws);
    expect(consumer.status()).toMatchObject({ state: "running", error: undefined });
    counts.ApproximateNumberOfMessagesNotVisible = String(quota);
    await look();
    await eventually(() => consumer.status().state === "stalled");
    await polled(aws);
    const { state, error } = consumer.status();
    expect(state).toBe("stalled");
    expect(error).toMatchObject({
      code: "overloaded",
      message: expect.stringContaining(`${quota} messages in flight`),
    });
    counts.ApproximateNumberOfMessagesNotVisible = "0";
    await look();
    await eventually(() => consumer.status().state === "running");
  });

  test("is not blamed for a queue that is empty", async () => {
    fake("Date", "performance");
    const { aws, consumer } = await consuming();
    const counts = { ApproximateNumberOfMessages: "0", ApproximateNumberOfMessagesNotVisible: "120000" };
    aws.on("GetQueueAttributes", () => ({ output: { Attributes: counts } }));
    vi.advanceTimersByTime(MINUTE_MS);
    await eventually(() => aws.inputs("GetQueueAttributes").length > 0);
    await polled(aws);
    expect(consumer.status().state).toBe("running");
  });
});

test("throttled polls wait longer each time, and say so in the status until they flow again", async () => {
  vi.spyOn(Math, "random").mockReturnValue(0);
  const timers = vi.spyOn(globalThis, "setTimeout");
  onTestFinished(() => {
    vi.restoreAllMocks();
  });
  const { aws, feed, consumer } = await consuming({ from: ordered });
  const before = aws.inputs("ReceiveMessage").length;
  feed.give("orders.fifo", ...Array.from({ length: 4 }, () => ({ error: "RequestThrottled" })));
  await eventually(() => consumer.status().state === "stalled");
  expect(consumer.status().error).toMatchObject({
    code: "overloaded",
    message: expect.stringMatching(/queue "orders".*RequestThrottled/),
  });
  await eventually(() => consumer.status().state === "running");
  expect(consumer.status().error).toBeUndefined();
  const backoffs = [50, 100, 200, 400];
  expect(timers.mock.calls.map(([, ms]) => ms).filter((ms) => backoffs.includes(ms ?? 0))).toEqual(backoffs);
  expect(aws.inputs("ReceiveMessage").length).toBeGreaterThan(before + 4);
});

describe("leases", () => {
  test("are awaited before a settlement, which they would undo", async () => {
    const gate = Promise.withResolvers<void>();
    const done = Promise.withResolvers<void>();
    const { aws, feed, consumer } = await consuming({
      handler: () => done.promise,
      sqs: { visibilityTimeoutMs: 3_000 },
    });
    aws.on("ChangeMessageVisibilityBatch", async (input) => {
      await gate.promise;
      return { output: { Successful: entriesOf(input) } };
    });
    feed.give("orders", bringing(received({ id: "a" })));
    await eventually(() => aws.inputs("ChangeMessageVisibilityBatch").length === 1);
    done.resolve();
    await eventually(() => consumer.status().succeeded === 1);
    await new Promise((resolve) => setImmediate(resolve));
    expect(aws.inputs("DeleteMessageBatch")).toEqual([]);
    gate.resolve();
    await eventually(() => aws.inputs("DeleteMessageBatch").length === 1);
    expect(receipts(aws.entries("DeleteMessageBatch"))).toEqual(["receipt-a"]);
  });

  test("end 12 hours after the receive: the handler is told, and the message left to SQS", async () => {
    fake("Date");
    const aborted = Promise.withResolvers<unknown>();
    const { aws, feed, consumer } = await consuming({
      handler: (_, { signal }) =>
        new Promise((resolve) => {
          signal.addEventListener("abort", () => {
            aborted.resolve(signal.reason);
            resolve();
          });
        }),
      sqs: { visibilityTimeoutMs: 1_000 },
    });
    feed.give("orders", bringing(received({ id: "a" })));
    await eventually(() => aws.inputs("ChangeMessageVisibilityBatch").length > 0);
    expect(consumer.status().running).toBe(1);
    vi.setSystemTime(Date.now() + 12 * HOUR_MS);
    expect(await aborted.promise).toMatchObject({ name: "MessagingError" });
    await eventually(() => consumer.status().running === 0);
    expect(aws.inputs("DeleteMessageBatch")).toEqual([]);
    expect(aws.entries("ChangeMessageVisibilityBatch").every(({ VisibilityTimeout }) => VisibilityTimeout === 1)).toBe(
      true,
    );
  });
});

test("a stop strands nothing in flight: what runs too long and what arrives meanwhile is given back", async () => {
  const { aws, feed, broker } = await consuming({ handler: () => new Promise(() => {}) });
  const gate = Promise.withResolvers<void>();
  const polled = Promise.withResolvers<void>();
  feed.give("orders", bringing(received({ id: "running-1" }), received({ id: "running-2" })), async () => {
    polled.resolve();
    await gate.promise;
    return bringing(received({ id: "late-1" }), received({ id: "late-2" }));
  });
  await polled.promise;
  const stopped = broker.stop({ timeoutMs: 10 });
  setTimeout(() => gate.resolve(), 100);
  await stopped;
  const given = aws.entries("ChangeMessageVisibilityBatch").filter(({ VisibilityTimeout }) => VisibilityTimeout === 0);
  expect(receipts(given)).toEqual(["receipt-late-1", "receipt-late-2", "receipt-running-1", "receipt-running-2"]);
  expect(aws.inputs("DeleteMessageBatch")).toEqual([]);
});

describe("copies", () => {
  test("a retry is sent with its delay and its history before the original is deleted", async () => {
    const { aws, feed, consumer } = await consuming({
      handler: () => {
        throw new TypeError("no stock");
      },
      broker: { consume: { retry: { attempts: 5, delay: { firstMs: 2_000, factor: 2, jitter: 0 } } } },
    });
    // What the original leaves of its fate decides: a copy that is not confirmed keeps it on the queue.
    aws.next("SendMessage", { error: "RequestThrottled" });
    feed.give("orders", bringing(received({ id: "a", headers: headersOf({ [HEADER.attempts]: "2" }) })));
    await eventually(() => aws.inputs("DeleteMessageBatch").length === 1);
    const asked = aws.requests.map(({ action }) => action).filter((action) => /^(Send|Delete)/.test(action));
    expect(asked).toEqual(["SendMessage", "SendMessage", "DeleteMessageBatch"]);
    const [first, second] = aws.inputs("SendMessage");
    expect(second).toEqual(first);
    expect(second).toMatchObject({ QueueUrl: `${aws.url}/000000000000/orders`, DelaySeconds: 8 });
    const { anybroker } = (second?.MessageAttributes ?? {}) as Record<string, { readonly StringValue: string }>;
    const packed = JSON.parse(anybroker?.StringValue ?? "");
    expect(packed).toMatchObject({ id: "a", headers: { [HEADER.attempts]: "3" } });
    expect(consumer.status()).toMatchObject({ retried: 1, deadLettered: 0 });
  });

  test("a delay over 15 minutes is made of several, and the handler starts at its end and not before", async () => {
    fake("Date");
    const handled: string[] = [];
    const { aws, feed, broker } = await consuming({ handler: (_, { id }) => void handled.push(id) });
    const sentAt = Date.now();
    await broker.send(orders, {}, { id: "a", delayMs: 40 * MINUTE_MS });
    const delays: unknown[] = [];
    for (let hop = 0; hop < 10 && handled.length === 0; hop++) {
      const { DelaySeconds = 0, MessageBody, MessageAttributes } = aws.inputs("SendMessage").at(-1) ?? {};
      delays.push(DelaySeconds);
      vi.setSystemTime(Date.now() + Number(DelaySeconds) * 1_000);
      // As SQS keeps it: body and attributes as they were sent.
      const message = { Body: MessageBody as string, MessageAttributes: MessageAttributes as Record<string, never> };
      const settled = aws.entries("DeleteMessageBatch").length;
      feed.give("orders", bringing({ ...received({ id: `hop-${hop}` }), ...message }));
      await eventually(() => aws.entries("DeleteMessageBatch").length > settled);
    }
    expect(handled).toEqual(["a"]);
    expect(delays.slice(0, 2)).toEqual([900, 900]);
    expect(Math.max(...delays.map(Number))).toBe(900);
    expect(Date.now() - sentAt).toBeGreaterThanOrEqual(40 * MINUTE_MS);
    expect(Date.now() - sentAt).toBeLessThan(41 * MINUTE_MS);
  });
});

describe("events", () => {
  const placed = topic<{ n: number }>("placed");

  async function subscribed(options: SubscribeOptions = {}) {
    const { aws, adapter } = await unopened();
    const feed = new Feed(aws);
    const handled: unknown[] = [];
    const broker = createBroker(adapter, { declare: "none" });
    broker.subscribe(
      placed,
      "billing",
      (body, { id, headers, routingKey }) => void handled.push({ body, id, headers: { ...headers }, routingKey }),
      options,
    );
    onTestFinished(() => broker.stop({ timeoutMs: 1 }));
    await broker.start();
    return { aws, feed, handled };
  }

  test("without raw delivery are taken out of SNS's envelope, ours and those of others", async () => {
    const { feed, handled, aws } = await subscribed();
    const wrapped = (id: string, Message: string, attributes: Record<string, MessageAttributeValue>) => {
      const MessageAttributes = Object.fromEntries(
        Object.entries(attributes).map(([name, { StringValue }]) => [name, { Type: "String", Value: StringValue }]),
      );
      const Body = JSON.stringify({
        Type: "Notification",
        MessageId: id,
        TopicArn: topicArn("placed"),
        Message,
        MessageAttributes,
      });
      return {
        MessageId: `aws-${id}`,
        ReceiptHandle: `receipt-${id}`,
        Body,
        Attributes: { ApproximateReceiveCount: "1" },
      };
    };
    const ours = received({
      id: "e-1",
      routingKey: "geo.us",
      headers: headersOf({ city: "Zürich" }),
      body: Buffer.from('{"n":1}'),
    });
    feed.give(
      "placed_-billing",
      bringing(
        wrapped("sns-1", ours.Body ?? "", ours.MessageAttributes ?? {}),
        wrapped("sns-2", '{"n":2}', { city: { DataType: "String", StringValue: "Bern" } }),
      ),
    );
    await eventually(() => aws.entries("DeleteMessageBatch").length === 2);
    expect(handled).toEqual([
      { body: { n: 1 }, id: "e-1", headers: { city: "Zürich" }, routingKey: "geo.us" },
      { body: { n: 2 }, id: "sns-2", headers: { city: "Bern" }, routingKey: undefined },
    ]);
  });

  test("that SNS could not keep away for a filter are deleted unhandled", async () => {
    const { feed, handled, aws } = await subscribed({ filter: "geo.*.ny" });
    const body = Buffer.from('{"n":1}');
    const keys = ["geo.us.ny", "geo.us.la", "geo.us"];
    feed.give(
      "placed_-billing",
      bringing(...keys.map((routingKey, index) => received({ id: `e-${index}`, routingKey, body }))),
    );
    await eventually(() => aws.entries("DeleteMessageBatch").length === 3);
    expect(handled).toMatchObject([{ id: "e-0" }]);
  });

  test("that came by another filter, or from somebody who has none, are handled and not thrown away", async () => {
    const { feed, handled, aws } = await subscribed({ filter: "geo.us" });
    const body = Buffer.from('{"n":1}');
    // The filter of a version that is being rolled out beside this one asks for Germany as well.
    const messages = ["geo.us", "geo.de", undefined].map((routingKey, index) =>
      received({ id: `e-${index}`, body, ...(routingKey === undefined ? {} : { routingKey }) }),
    );
    feed.give("placed_-billing", bringing(...messages));
    await eventually(() => aws.entries("DeleteMessageBatch").length === 3);
    expect(handled).toMatchObject([{ id: "e-0" }, { id: "e-1" }, { id: "e-2" }]);
  });
});

describe("names", () => {
  test.for(["", "prefix-"])(
    "that would be one on SQS are refused at start, before anything is made (prefix: %s)",
    async (namePrefix) => {
      const { aws, adapter } = await unopened({ namePrefix });
      new ScriptedAccount(aws);
      const broker = createBroker(adapter, { destinations: [queue("a.b")] });
      broker.subscribe(topic("a"), "b", () => {});
      onTestFinished(() => broker.stop());
      await expect(broker.start()).rejects.toThrow(`queue ${namePrefix}a_-b`);
      expect(aws.requests.filter(({ action }) => action.startsWith("Create"))).toEqual([]);
    },
  );

  test("of a queue and a topic may be one", async () => {
    const { aws, adapter } = await unopened();
    const account = new ScriptedAccount(aws);
    const broker = createBroker(adapter, { destinations: [queue("a"), topic("a")] });
    onTestFinished(() => broker.stop());
    await broker.start();
    expect([account.queues.has("a"), account.topics.has("a")]).toEqual([true, true]);
  });
});
