import { describe, expect, onTestFinished, test } from "vitest";
import { sqs } from "../../adapters/sqs/index.ts";
import { isMessagingError } from "../../core/errors.ts";
import { consuming } from "./consuming.ts";
import { bringing, received } from "./feed.ts";
import { CREDENTIALS, eventually, holding, ORDERS, opened, receiving, send } from "./opened.ts";
import { outgoing } from "./outgoing.ts";
import { type Answer, ScriptedAws } from "./scripted-aws.ts";

const SHORT = { requestTimeoutMs: 500 };
const HALF: Answer = { broken: "byte" };

describe("an answer that never comes to its end is none", () => {
  test.for<readonly [what: string, answer: Answer]>([
    ["its head alone", { broken: "head" }],
    ["one byte of it", HALF],
    ["a byte of a refusal", { broken: "byte", status: 400 }],
    ["a space now and then", { broken: "drip" }],
    ["more than SQS ever says", { broken: "endless" }],
  ])("%s, to a poll, which is made again", async ([, answer]) => {
    const { aws, adapter, signals } = await opened(SHORT);
    aws.next("ReceiveMessage", answer, bringing(received({ id: "m" })));
    const { inbox } = await receiving(adapter);
    await eventually(() => inbox.messages.length === 1);
    expect(inbox.said[0]).toBe("stalled");
    expect(inbox.causes[0]).toMatchObject({ code: "unreachable" });
    expect(signals).toContain("down");
  });

  test("is said to be late, or too long", async () => {
    const { aws, adapter } = await opened(SHORT);
    aws.on("GetQueueAttributes", () => HALF);
    const error = await adapter.depth(ORDERS).catch((error: unknown) => error);
    expect(error).toMatchObject({ message: expect.stringMatching(/no answer in time .*requestTimeoutMs/) });
    // However long it may take, it ends.
    const long = await opened({ requestTimeoutMs: 600_000 });
    long.aws.on("GetQueueAttributes", () => ({ broken: "endless" }));
    await expect(long.adapter.depth(ORDERS)).rejects.toMatchObject({
      code: "unreachable",
      message: expect.stringMatching(/it has more than \d+ bytes; check the endpoint/),
    });
  });

  test.for([
    ["ListQueues", "connecting"],
    ["GetQueueUrl", "looking for"],
  ] as const)("to %s, at the start, fails it", async ([action, where]) => {
    const aws = await ScriptedAws.start();
    onTestFinished(() => aws.stop());
    aws.on(action, () => HALF);
    const adapter = sqs({ endpoint: aws.url, region: "eu-central-1", credentials: CREDENTIALS, ...SHORT });
    const open = async () => {
      await adapter.open({ up() {}, down() {}, blocked() {}, unblocked() {}, notice() {} });
      await adapter.receive(ORDERS, { prefetch: 1, ordered: false }, { deliver() {} } as never);
    };
    const error = await open().catch((error: unknown) => error);
    expect(isMessagingError(error, "unreachable")).toBe(true);
    expect(error).toMatchObject({ message: expect.stringContaining(where) });
    await adapter.close();
  });

  test("to a delete, which is made again", async () => {
    const { aws, receiver, tokens } = await holding(1, SHORT);
    aws.next("DeleteMessageBatch", HALF);
    expect(await receiver.settle(tokens.map((token) => ({ token, action: "ack" })))).toEqual(["settled"]);
    expect(aws.inputs("DeleteMessageBatch").length).toBeGreaterThan(1);
  });

  test("to a renewal, which is made again", async () => {
    const { aws, receiver, tokens } = await holding(1, SHORT);
    aws.next("ChangeMessageVisibilityBatch", HALF);
    expect(await receiver.extend(tokens)).toEqual([true]);
    expect(aws.inputs("ChangeMessageVisibilityBatch").length).toBeGreaterThan(1);
  });

  test.for(["SendMessage", "SendMessageBatch"])("to %s, of which nothing is known then", async (action) => {
    const { aws, adapter } = await opened(SHORT);
    aws.on(action, () => HALF);
    const batch = action === "SendMessage" ? [outgoing()] : [outgoing(), outgoing()];
    for (const { status } of await send(adapter, batch)) expect(status).toBe("unknown");
  });

  test("to a publication to SNS, of which nothing is known then", async () => {
    const { aws, adapter } = await opened(SHORT);
    aws.on("ListTopics", () => ({ output: { Topics: [{ TopicArn: "arn:aws:sns:eu-central-1:0:placed" }] } }));
    aws.on("PublishBatch", () => HALF);
    const [result] = await send(adapter, [outgoing()], { kind: "topic", name: "placed" });
    expect(result?.status).toBe("unknown");
  });

  test("to a look at a quarantine log, which fails and can be made again", async () => {
    const { aws, adapter } = await opened(SHORT);
    const log = adapter.quarantine(ORDERS);
    aws.next("ReceiveMessage", HALF);
    await expect(log.read()).rejects.toMatchObject({ code: "unreachable" });
    expect(await log.read()).toEqual([]);
  });

  test.for<readonly [action: string, handler: () => Promise<void>]>([
    ["ReceiveMessage", async () => {}],
    ["DeleteMessageBatch", async () => {}],
    ["ChangeMessageVisibilityBatch", () => new Promise(() => {})],
  ])("to %s keeps no broker object from stopping", async ([action, handler]) => {
    const started = Promise.withResolvers<void>();
    const { aws, feed, broker } = await consuming({
      sqs: SHORT,
      handler: () => {
        started.resolve();
        return handler();
      },
    });
    feed.give("orders", bringing(received({ id: "m" })));
    await started.promise;
    aws.on(action, () => HALF);
    await broker.stop({ timeoutMs: 1 });
    expect(broker.status().state).toBe("stopped");
  });
});
