import { type BrokerOptions, createBroker, type Handler, type Queue, queue } from "anybroker";
import { onTestFinished, vi } from "vitest";
import type { SqsOptions } from "../../adapters/sqs/index.ts";
import { Feed } from "./feed.ts";
import { unopened } from "./opened.ts";
import type { ScriptedAws } from "./scripted-aws.ts";

export const orders = queue<object>("orders");
export const ordered = queue<object>("orders", { ordered: true });

interface Given {
  readonly handler?: Handler<object>;
  readonly from?: Queue<object>;
  readonly sqs?: SqsOptions;
  readonly broker?: BrokerOptions;
}

/** A broker object that consumes from a scripted queue; it ends with the test. */
export async function consuming({ handler = () => {}, from = orders, sqs = {}, broker: options = {} }: Given = {}) {
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

/** Stops these clocks, until the test moves them. */
export function fake(...toFake: ("Date" | "performance")[]): void {
  vi.useFakeTimers({ toFake, now: Date.now() });
  onTestFinished(() => {
    vi.useRealTimers();
  });
}
