import { MessagingError } from "../../../core/errors.ts";
import type { Queues, StandingQueue } from "./queues.ts";

/** Lets that topic, and no other, put messages on the queue; without that its events would be dropped in silence. */
export async function allowTopic(
  queues: Queues,
  where: string,
  queue: StandingQueue,
  topic: string,
  create: boolean,
): Promise<void> {
  const { Policy } = await queues.attributes(where, queue.url, ["Policy"]);
  if (Policy?.includes(JSON.stringify(topic))) return;
  if (Policy === undefined && create) {
    await queues.set(where, queue.url, { Policy: queuePolicy(queue.arn, topic) });
    return;
  }
  const found =
    Policy === undefined ? "the queue has no policy" : "the queue has a policy that does not name the topic";
  throw new MessagingError("conflict", `${where}: ${found}; allow ${topic} to send messages to it`);
}

function queuePolicy(queue: string, topic: string): string {
  return JSON.stringify({
    Version: "2012-10-17",
    Statement: [
      {
        Sid: "anybroker",
        Effect: "Allow",
        Principal: { Service: "sns.amazonaws.com" },
        Action: "sqs:SendMessage",
        Resource: queue,
        Condition: { ArnEquals: { "aws:SourceArn": topic } },
      },
    ],
  });
}
