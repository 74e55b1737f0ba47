import { type Address, describeAddress } from "../../../core/address.ts";
import { MessagingError } from "../../../core/errors.ts";
import type { Queues, StandingQueue } from "./queues.ts";

/** The `RedrivePolicy` of a queue: what SQS handed out too often goes to the dead letters with this ARN. */
export function redrivePolicy(deadLetters: string, maxReceives: number): string {
  return JSON.stringify({ deadLetterTargetArn: deadLetters, maxReceiveCount: maxReceives });
}

/** The net under the retry policy must lead to our dead letters: elsewhere nobody would look. */
export async function checkRedrive(
  queues: Queues,
  of: Address,
  queue: StandingQueue,
  wanted: string,
  create: boolean,
): Promise<void> {
  const where = `declaring ${describeAddress(of)}`;
  const { RedrivePolicy } = await queues.attributes(where, queue.url, ["RedrivePolicy"]);
  if (RedrivePolicy === undefined && create) {
    await queues.set(where, queue.url, { RedrivePolicy: wanted });
    return;
  }
  const target = targetOf(wanted);
  if (RedrivePolicy !== undefined && targetOf(RedrivePolicy) === target) return;
  const found = RedrivePolicy === undefined ? "has no redrive policy" : "redrives to another queue";
  throw new MessagingError(
    "conflict",
    `${describeAddress(of)} ${found}; set its RedrivePolicy to ${target}, or remove it to have it set here`,
  );
}

function targetOf(policy: string): unknown {
  try {
    return (JSON.parse(policy) as { readonly deadLetterTargetArn?: unknown }).deadLetterTargetArn;
  } catch {
    return undefined;
  }
}
