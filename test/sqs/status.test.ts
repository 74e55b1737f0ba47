import { describe, expect, onTestFinished, test, vi } from "vitest";
import { consuming, fake, ordered, orders } from "./consuming.ts";
import { eventually } from "./opened.ts";
import type { ScriptedAws } from "./scripted-aws.ts";

const MINUTE_MS = 60_000;

/** Resolves when some more polls came back. */
async function polled(aws: ScriptedAws): Promise<void> {
  const polls = aws.inputs("ReceiveMessage").length;
  await eventually(() => aws.inputs("ReceiveMessage").length > polls + 6);
}

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
