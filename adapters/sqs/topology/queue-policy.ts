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
  if (Policy === undefined && create) {
    await queues.set(where, queue.url, { Policy: queuePolicy(queue.arn, topic) });
    return;
  }
  if (Policy !== undefined && allows(Policy, topic)) return;
  const found =
    Policy === undefined ? "the queue has no policy" : "the queue has a policy that does not name the topic";
  throw new MessagingError("conflict", `${where}: ${found}; allow ${topic} to send messages to it`);
}

/** A policy by which a topic, and no other, may put messages on a queue. */
export function queuePolicy(queue: string, topic: string): string {
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

/** Whether a statement that allows something has the topic in its condition, by its ARN or by a pattern for it. */
export function allows(policy: string, topic: string): boolean {
  const statements = [parsed(policy)?.Statement ?? []].flat();
  return statements.some(
    ({ Effect, Condition }) => Effect === "Allow" && texts(Condition).some((text) => matches(text, topic)),
  );
}

interface Policy {
  readonly Statement?: Statement | readonly Statement[];
}

interface Statement {
  readonly Effect?: unknown;
  readonly Condition?: unknown;
}

function parsed(policy: string): Policy | undefined {
  try {
    return JSON.parse(policy) as Policy;
  } catch {
    return undefined;
  }
}

/** Every text in a value, however deep. */
function texts(value: unknown): readonly string[] {
  if (typeof value === "string") return [value];
  return typeof value === "object" && value !== null ? Object.values(value).flatMap(texts) : [];
}

/** As IAM matches ARNs: part by part between colons, `*` for any characters and `?` for one. */
function matches(pattern: string, arn: string): boolean {
  const parts = arn.split(":");
  const patterns = pattern.split(":");
  if (!pattern.startsWith("arn:") || patterns.length !== parts.length) return false;
  return patterns.every((part, index) => {
    const expression = part
      .replaceAll(/[.+^${}()|[\]\\]/g, "\\$&")
      .replaceAll("*", ".*")
      .replaceAll("?", ".");
    return new RegExp(`^${expression}$`, "s").test(parts[index] ?? "");
  });
}
