import { SQSClient } from "@aws-sdk/client-sqs";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { ChangeBatcher } from "../../adapters/sqs/change-batcher.ts";
import { decodeMessage } from "../../adapters/sqs/message-codec.ts";
import { Requeues, SqsReceiver } from "../../adapters/sqs/receiver.ts";
import type { DeliveryToken } from "../../core/adapter.ts";
import { brings, CREDENTIALS, eventually, holding, Inbox, opened, receiving } from "./opened.ts";
import { entriesOf } from "./scripted-aws.ts";

const HOUR_MS = 60 * 60 * 1_000;

function clock(): void {
  vi.useFakeTimers({ toFake: ["Date", "performance"], now: Date.now() });
  onTestFinished(() => {
    vi.useRealTimers();
  });
}

test("a change that fails with anything at all is made again, and ends no process", async () => {
  const odd = Object.assign(new Error(), { message: { toString: 1 }, name: { toString: 1 } });
  const target = { url: "", where: 'queue "orders"', unanswered() {}, missing() {} };
  let asked = 0;
  const send = async (): Promise<unknown> => {
    if (++asked === 1) throw odd;
    return { Successful: [{ Id: "0" }] };
  };
  const batcher = new ChangeBatcher({ ...target, client: { send } as unknown as SQSClient }, () => {});
  expect(await batcher.apply([{ receipt: "r" }], true)).toEqual(["done"]);
  expect(asked).toBe(2);
});

describe("polls", () => {
  test("ask for no more than the prefetch has room for, and are as many as come back full", async () => {
    const { aws, adapter } = await opened({ maxPolls: 3 });
    let waiting = 0;
    let most = 0;
    let given = 0;
    let polls = 0;
    const three = Promise.withResolvers<void>();
    aws.on("ReceiveMessage", async ({ MaxNumberOfMessages }) => {
      most = Math.max(most, ++waiting);
      if (waiting === 3) three.resolve();
      // Two have to come back full before there are three; then there is time for a fourth, should there be one.
      if (++polls > 2) await three.promise;
      await new Promise((resolve) => setTimeout(resolve, 5));
      waiting--;
      const count = Math.min(Number(MaxNumberOfMessages), 95 - given);
      given += count;
      return brings(count);
    });
    const { inbox } = await receiving(adapter, 95);
    await eventually(() => inbox.messages.length === 95);
    expect(most).toBe(3);
    expect(aws.inputs("ReceiveMessage").reduce((sum, input) => sum + Number(input.MaxNumberOfMessages), 0)).toBe(95);
    expect(aws.inputs("ReceiveMessage")[0]).toMatchObject({ WaitTimeSeconds: 1, VisibilityTimeout: 30 });
  });

  test("that bring more than was asked for bring nothing, and say so", async () => {
    const { aws, adapter } = await opened();
    aws.next("ReceiveMessage", brings(1_000), brings(3));
    const { inbox } = await receiving(adapter, 3);
    await eventually(() => inbox.messages.length === 3);
    expect(inbox.causes).toMatchObject([
      {
        code: "unreachable",
        message: expect.stringContaining("it has 1000 messages, and at most 3 were requested; check the endpoint"),
      },
    ]);
    // What a server has given away comes back by itself.
    expect(aws.entries("ChangeMessageVisibilityBatch")).toEqual([]);
  });

  test("that bring what nobody meant to be read deliver it, and what came beside it, once", async () => {
    const { aws, adapter } = await opened();
    const hostile = '{"a":{"Value":{"toString":1,"valueOf":1}}}';
    const foreign = (index: number, message: object): object => ({
      MessageId: `hostile-${index}`,
      ReceiptHandle: `hostile-receipt-${index}`,
      ...message,
    });
    const attribute = { DataType: "String", StringValue: '{"id":"x","headers":{"a":{"toString":1}}}' };
    const Messages = [
      foreign(1, {
        Body: `{"Type":"Notification","TopicArn":"t","Message":"m","MessageId":"i","MessageAttributes":${hostile}}`,
      }),
      foreign(2, { Body: "{}", MessageAttributes: { anybroker: attribute } }),
      foreign(3, { Body: "{}", Attributes: { ApproximateReceiveCount: "many" } }),
      { MessageId: "innocent", ReceiptHandle: "receipt", Body: "{}" },
    ];
    aws.next("ReceiveMessage", { output: { Messages } });
    const { inbox } = await receiving(adapter);
    await eventually(() => inbox.messages.length === 4);
    expect(inbox.messages.map(({ id }) => id)).toEqual(["i", "x", "hostile-3", "innocent"]);
    expect(inbox.messages.map(({ redeliveries }) => redeliveries)).toEqual([0, 0, 0, 0]);
    await eventually(() => aws.inputs("ReceiveMessage").length > 2);
    expect(inbox.messages).toHaveLength(4);
  });

  test("that bring attributes of SQS that are no texts bring nothing, and are made again", async () => {
    const { aws, adapter } = await opened();
    const hostile = { toString: 1, valueOf: 1 };
    const message = { ReceiptHandle: "r", Body: "{}", Attributes: { ApproximateReceiveCount: hostile } };
    aws.next("ReceiveMessage", { output: { Messages: [message] } }, brings(1));
    const { inbox } = await receiving(adapter);
    await eventually(() => inbox.messages.length === 1);
    expect(inbox.causes).toMatchObject([{ code: "unreachable", message: expect.stringContaining("another shape") }]);
  });

  test("whose messages cannot be handled are made again, and keep none of them", async () => {
    const { aws } = await opened();
    aws.next("ReceiveMessage", brings(2), brings(2));
    const client = new SQSClient({ region: "eu-central-1", endpoint: aws.url, credentials: CREDENTIALS, md5: false });
    onTestFinished(() => client.destroy());
    const inbox = new Inbox();
    let calls = 0;
    const receiver = new SqsReceiver(
      {
        where: 'queue "orders"',
        url: `${aws.url}/0/orders`,
        polling: client,
        client,
        requeues: new Requeues(),
        redriving: undefined,
        leaseMs: 30_000,
        waitSeconds: 1,
        maxPolls: 1,
        prefetch: 2,
        decode: (message) => {
          if (++calls === 2) throw new RangeError("as scripted");
          return decodeMessage(message);
        },
        missing: async () => undefined,
        unanswered() {},
        congested: async () => undefined,
        closed() {},
      },
      inbox,
    );
    onTestFinished(() => receiver.close());
    await eventually(() => inbox.messages.length === 2);
    expect(inbox.causes).toMatchObject([{ code: "unreachable", cause: { message: "as scripted" } }]);
  });

  test("that bring what the prefetch has no room for any more give it back", async () => {
    const { aws, adapter } = await opened();
    const gate = Promise.withResolvers<void>();
    aws.next("ReceiveMessage", async () => {
      await gate.promise;
      return brings(10);
    });
    const { inbox, receiver } = await receiving(adapter);
    await eventually(() => aws.inputs("ReceiveMessage").length === 1);
    receiver.prefetch(4);
    gate.resolve();
    await eventually(() => aws.entries("ChangeMessageVisibilityBatch").length === 6);
    expect(inbox.messages).toHaveLength(4);
    expect(aws.entries("ChangeMessageVisibilityBatch").map(({ VisibilityTimeout }) => VisibilityTimeout)).toEqual(
      new Array(6).fill(0),
    );
  });

  test("are waited for at the close, and what they bring is given back", async () => {
    const { aws, adapter } = await opened();
    const gate = Promise.withResolvers<void>();
    aws.next("ReceiveMessage", async () => {
      await gate.promise;
      return brings(2);
    });
    const { inbox, receiver } = await receiving(adapter);
    await eventually(() => aws.inputs("ReceiveMessage").length === 1);
    let closed = false;
    const close = receiver.close().then(() => {
      closed = true;
    });
    await new Promise((resolve) => setImmediate(resolve));
    expect(closed).toBe(false);
    gate.resolve();
    await close;
    expect(inbox.messages).toEqual([]);
    expect(aws.entries("ChangeMessageVisibilityBatch")).toHaveLength(2);
    await receiver.close();
    expect(aws.inputs("ReceiveMessage")).toHaveLength(1);
  });

  test.for([
    ["OverLimit", { error: "OverLimit", status: 403 }, "overloaded"],
    ["throttling", { error: "RequestThrottled" }, "overloaded"],
    ["no right", { error: "AccessDenied", status: 403 }, "unauthorized"],
    ["a failure", { raw: "<html>", status: 503 }, "unreachable"],
    ["no answer", "cut", "unreachable"],
    ["a queue that is gone", { error: "QueueDoesNotExist" }, "not-found"],
  ] as const)("stall at %s, and say so when they flow again", async ([, answer, code]) => {
    const { aws, adapter } = await opened();
    aws.next("ReceiveMessage", answer);
    const { inbox } = await receiving(adapter);
    await eventually(() => inbox.said.includes("flowing"));
    expect(inbox.said).toEqual(["stalled", "flowing"]);
    expect(inbox.causes[0]).toMatchObject({ code, message: expect.stringContaining('"orders"') });
  });

  test("that bring nothing of a queue at its quota in flight say so", async () => {
    clock();
    const { aws, adapter } = await opened();
    const counts = { ApproximateNumberOfMessages: "5", ApproximateNumberOfMessagesNotVisible: "120000" };
    aws.on("GetQueueAttributes", () => ({ output: { Attributes: counts } }));
    const { inbox } = await receiving(adapter);
    vi.setSystemTime(Date.now() + 60_000);
    vi.advanceTimersByTime(60_000);
    await eventually(() => inbox.said.includes("stalled"));
    expect(inbox.causes[0]).toMatchObject({
      code: "overloaded",
      message: expect.stringContaining("120000 messages in flight"),
    });
    counts.ApproximateNumberOfMessagesNotVisible = "10";
    vi.advanceTimersByTime(60_000);
    await eventually(() => inbox.said.includes("flowing"));
  });
});

describe("settling", () => {
  test("has an answer for every delivery", async () => {
    const { aws, receiver, tokens } = await holding(4);
    aws.next(
      "DeleteMessageBatch",
      (input) => {
        const [first, second, third] = entriesOf(input);
        return {
          output: {
            Successful: [first],
            Failed: [
              { ...second, Code: "ReceiptHandleIsInvalid", SenderFault: true },
              { ...third, Code: "InternalError", SenderFault: false },
            ],
          },
        };
      },
      { error: "RequestThrottled" },
    );
    const results = await receiver.settle(tokens.map((token) => ({ token, action: "ack" as const })));
    // The third failed for the moment, and the fourth was not mentioned: both are asked for again until there is an answer.
    expect(results).toEqual(["settled", "fenced", "settled", "settled"]);
    expect(aws.inputs("DeleteMessageBatch").map((input) => entriesOf(input).length)).toEqual([4, 2, 2]);
  });

  test("a second time does nothing", async () => {
    const { aws, receiver, tokens } = await holding(1);
    const settle = (action: "ack" | "requeue") => receiver.settle(tokens.map((token) => ({ token, action })));
    expect(await settle("ack")).toEqual(["settled"]);
    expect([...(await settle("ack")), ...(await settle("requeue"))]).toEqual(["fenced", "fenced"]);
    expect(await receiver.extend(tokens)).toEqual([false]);
    expect(aws.requests.filter(({ action }) => /Delete|Change/.test(action))).toHaveLength(1);
  });

  test("never rejects, and is not taken for done, while nothing answers until the close", async () => {
    const { aws, receiver, inbox, tokens } = await holding(1);
    aws.on("DeleteMessageBatch", () => "cut");
    const settled = receiver.settle(tokens.map((token) => ({ token, action: "ack" })));
    await eventually(() => inbox.said.includes("stalled"));
    expect(inbox.causes[0]).toMatchObject({ code: "unreachable" });
    await receiver.close();
    expect(await settled).toEqual(["fenced"]);
    // Nobody else is to have it sooner than its lease says: it was handled.
    expect(aws.inputs("ChangeMessageVisibilityBatch")).toEqual([]);
  });

  test("gathers deletes while one is under way, and lets ten go at once", async () => {
    const { aws, receiver, tokens } = await holding(12);
    const gate = Promise.withResolvers<void>();
    const sizes: number[] = [];
    aws.on("DeleteMessageBatch", async (input) => {
      const Successful = entriesOf(input);
      sizes.push(Successful.length);
      if (sizes.length === 1) await gate.promise;
      return { output: { Successful } };
    });
    const acks = tokens.map((token) => receiver.settle([{ token, action: "ack" }]));
    await eventually(() => sizes.length > 1);
    expect(sizes).toEqual([1, 10]);
    gate.resolve();
    expect((await Promise.all(acks)).flat()).toEqual(new Array(12).fill("settled"));
    expect(sizes.toSorted((one, other) => one - other)).toEqual([1, 1, 10]);
  });

  test("keeps no delete waiting for long behind one that hangs", async () => {
    const { aws, receiver, tokens } = await holding(2, { requestTimeoutMs: HOUR_MS });
    const gate = Promise.withResolvers<void>();
    aws.next("DeleteMessageBatch", async (input) => {
      await gate.promise;
      return { output: { Successful: entriesOf(input) } };
    });
    const [first, second] = tokens.map((token) => receiver.settle([{ token, action: "ack" }]));
    expect(await second).toEqual(["settled"]);
    gate.resolve();
    expect(await first).toEqual(["settled"]);
  });

  test("keeps no delete waiting for one that is tried again later", async () => {
    const { aws, receiver, tokens } = await holding(2);
    aws.next("DeleteMessageBatch", { error: "InternalFailure", status: 500 });
    const acks = tokens.map((token) => receiver.settle([{ token, action: "ack" }]));
    expect((await Promise.all(acks)).flat()).toEqual(["settled", "settled"]);
    const receipts = aws.entries("DeleteMessageBatch").map(({ ReceiptHandle }) => ReceiptHandle);
    expect(receipts).toEqual(["receipt-0-1", "receipt-1-1", "receipt-0-1"]);
  });

  test("what was given back on purpose is not taken for a death", async () => {
    const { aws, receiver, inbox, tokens } = await holding(1);
    const release = (token: DeliveryToken) => receiver.settle([{ token, action: "requeue" }]);
    aws.next("ReceiveMessage", brings(1, 2));
    await release(tokens[0]);
    await eventually(() => inbox.messages.length === 2);
    // The lease of this one was lost, elsewhere; that counts.
    aws.next("ReceiveMessage", brings(1, 4));
    await release(inbox.messages[1]?.token);
    await eventually(() => inbox.messages.length === 3);
    expect(inbox.messages.map(({ redeliveries }) => redeliveries)).toEqual([0, 0, 1]);
  });
});

describe("leases", () => {
  test("are renewed for every delivery, in batches", async () => {
    const { aws, receiver, tokens } = await holding(10);
    expect(await receiver.extend(tokens)).toEqual(new Array(10).fill(true));
    expect(aws.inputs("ChangeMessageVisibilityBatch")).toHaveLength(1);
    expect(new Set(aws.entries("ChangeMessageVisibilityBatch").map((entry) => entry.VisibilityTimeout))).toEqual(
      new Set([30]),
    );
  });

  test("end 12 hours after the receive, whatever is asked for", async () => {
    clock();
    const { aws, receiver, tokens } = await holding(1);
    const held = Date.now();
    vi.setSystemTime(held + 12 * HOUR_MS - 7_500);
    expect(await receiver.extend(tokens)).toEqual([true]);
    expect(aws.entries("ChangeMessageVisibilityBatch").at(-1)?.VisibilityTimeout).toBe(7);
    vi.setSystemTime(held + 12 * HOUR_MS - 500);
    expect(await receiver.extend(tokens)).toEqual([false]);
    expect(aws.entries("ChangeMessageVisibilityBatch")).toHaveLength(1);
  });

  test.for(["MessageNotInflight", "ReceiptHandleIsInvalid", "InvalidParameterValue"])(
    "are lost when SQS says %s, and settling is fenced then",
    async (Code) => {
      const { aws, receiver, tokens } = await holding(2);
      aws.next("ChangeMessageVisibilityBatch", (input) => {
        const [first, second] = entriesOf(input);
        return { output: { Successful: [first], Failed: [{ ...second, Code, SenderFault: true }] } };
      });
      expect(await receiver.extend(tokens)).toEqual([true, false]);
      expect(await receiver.settle([{ token: tokens[1], action: "ack" }])).toEqual(["fenced"]);
      expect(aws.inputs("DeleteMessageBatch")).toEqual([]);
    },
  );

  test("are awaited by a close before what is held is given back, which they would undo", async () => {
    const { aws, receiver, tokens } = await holding(1);
    const gate = Promise.withResolvers<void>();
    const answered: unknown[] = [];
    aws.on("ChangeMessageVisibilityBatch", async (input) => {
      const [{ VisibilityTimeout } = {}] = entriesOf(input);
      if (VisibilityTimeout !== 0) await gate.promise;
      answered.push(VisibilityTimeout);
      return { output: { Successful: entriesOf(input) } };
    });
    const extended = receiver.extend(tokens);
    await eventually(() => aws.inputs("ChangeMessageVisibilityBatch").length === 1);
    const closed = receiver.close();
    setTimeout(() => gate.resolve(), 100);
    await Promise.all([extended, closed]);
    expect(answered).toEqual([30, 0]);
  });

  test("stay ours without an answer for as long as SQS said before", async () => {
    clock();
    const { aws, receiver, tokens } = await holding(1);
    aws.on("ChangeMessageVisibilityBatch", () => ({ error: "InternalFailure", status: 500 }));
    expect(await receiver.extend(tokens)).toEqual([true]);
    vi.setSystemTime(Date.now() + 30_000);
    expect(await receiver.extend(tokens)).toEqual([false]);
  });
});
