import { expect, onTestFinished, test, vi } from "vitest";
import { EarlyPolls } from "../../adapters/sqs/receiver.ts";
import { bringing, received } from "./feed.ts";
import { eventually, ORDERS, opened, receiving } from "./opened.ts";

test("polls that come back empty at once, again and again, are made ever more slowly, within limits", () => {
  const early = new EarlyPolls(5);
  const pauses = Array.from({ length: 20 }, () => early.pauseMs(3, 0));
  expect(pauses[0]).toBe(0);
  expect(pauses[1]).toBeGreaterThan(0);
  expect(pauses.at(-1)).toBeGreaterThan(100);
  expect(Math.max(...pauses)).toBeLessThanOrEqual(250);
});

test.for([
  ["a poll that waits as it is to", 5_000, 0],
  ["a poll that brings something", 3, 1],
] as const)("%s is followed at once", ([, tookMs, count]) => {
  const early = new EarlyPolls(5);
  for (let poll = 0; poll < 10; poll++) early.pauseMs(3, 0);
  expect(early.pauseMs(tookMs, count)).toBe(0);
  expect(early.pauseMs(3, 0)).toBe(0);
});

test("no poll is made before the pause is over, and a stop does not wait for it", async () => {
  vi.spyOn(EarlyPolls.prototype, "pauseMs").mockReturnValue(600_000);
  onTestFinished(() => void vi.restoreAllMocks());
  const { aws, adapter } = await opened();
  aws.on("ReceiveMessage", () => ({ output: {} }));
  aws.on("GetQueueAttributes", () => ({ output: { Attributes: { ApproximateNumberOfMessages: "0" } } }));
  const { receiver } = await receiving(adapter);
  await eventually(() => aws.inputs("ReceiveMessage").length > 0);
  for (let others = 0; others < 20; others++) await adapter.depth(ORDERS);
  expect(aws.inputs("ReceiveMessage")).toHaveLength(1);
  await receiver.close();
});

test("what comes after empty polls is taken", async () => {
  const { aws, adapter } = await opened({ waitSeconds: 20 });
  aws.on("ReceiveMessage", () => ({ output: {} }));
  const { inbox } = await receiving(adapter);
  await eventually(() => aws.inputs("ReceiveMessage").length >= 5);
  aws.on("ReceiveMessage", () => bringing(received({ id: "m" })));
  await eventually(() => inbox.messages.length > 0);
});
