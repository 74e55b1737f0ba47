import { HEADER } from "anybroker/adapter";
import { describe, expect, test, vi } from "vitest";
import { consuming, fake, orders } from "./consuming.ts";
import { bringing, received } from "./feed.ts";
import { eventually } from "./opened.ts";
import { headersOf } from "./outgoing.ts";
import { queueArn } from "./scripted-account.ts";
import { entriesOf } from "./scripted-aws.ts";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

const receipts = (entries: readonly Record<string, unknown>[]) =>
  entries.map(({ ReceiptHandle }) => ReceiptHandle).sort();

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
  test("that AWS takes in no size are left to the redrive policy, and stop no other message", async () => {
    const events: string[] = [];
    const handled: string[] = [];
    const { aws, feed, consumer } = await consuming({
      handler: (_, { id }) => {
        handled.push(id);
        if (id !== "good") throw new Error("no");
      },
      broker: {
        consume: { retry: { attempts: 1 }, concurrency: 1, prefetch: { messages: 1 } },
        onEvent: ({ type }) => void events.push(type),
      },
    });
    const target = { deadLetterTargetArn: queueArn("orders_-dlq"), maxReceiveCount: 1 };
    aws.on("GetQueueAttributes", () => ({ output: { Attributes: { RedrivePolicy: JSON.stringify(target) } } }));
    aws.on("SendMessage", () => ({ error: "InvalidParameterValue" }));
    feed.give(
      "orders",
      bringing(received({ id: "bad", headers: headersOf({ tenant: "acme" }) })),
      bringing(received({ id: "good" })),
    );
    await eventually(() => handled.includes("good"));
    expect(consumer.status()).toMatchObject({ deadLettered: 1, parked: 0 });
    expect(events).toContain("dead-lettered");
    expect(aws.inputs("SendMessage").length).toBeGreaterThan(1);
    expect(aws.entries("ChangeMessageVisibilityBatch")).toMatchObject([
      { ReceiptHandle: "receipt-bad", VisibilityTimeout: 0 },
    ]);
  });

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
