import { GetQueueAttributesCommand, type Message, type SQSClient } from "@aws-sdk/client-sqs";
import type { DeadLetterResult, IncomingMessage } from "../../core/adapter.ts";
import { describeAddress, type WorkAddress } from "../../core/address.ts";
import { MessagingError } from "../../core/errors.ts";
import { HEADER, withHeaders } from "../../core/system-headers.ts";
import { asMessagingError } from "./errors.ts";
import { decodeMessage } from "./message-codec.ts";
import { FIFO } from "./names.ts";

/**
 * Converts a message from dead letters. Copies of the engine have the reason in their headers. Messages that SQS moved
 * get the same headers.
 */
export function decodeDeadLetter(of: WorkAddress, message: Message): Omit<IncomingMessage<Message>, "token"> {
  const plain = decodeMessage(message);
  const { DeadLetterQueueSourceArn, SentTimestamp, ApproximateFirstReceiveTimestamp } = message.Attributes ?? {};
  if (plain.headers[HEADER.deadReason] !== undefined || DeadLetterQueueSourceArn === undefined) return plain;
  const headers = withHeaders(plain.headers, {
    [HEADER.deadReason]: "crashed",
    [HEADER.deadOrigin]: describeAddress(of),
    [HEADER.deadErrorClass]: "MessagingError",
    [HEADER.deadError]:
      "SQS moved it: it was received as often as its queue allows and never settled, or it was too large for a copy and was left to SQS",
    [HEADER.deadFirstAt]: plain.headers[HEADER.firstFailedAt] ?? timeOf(SentTimestamp),
    [HEADER.deadLastAt]: timeOf(ApproximateFirstReceiveTimestamp ?? SentTimestamp),
  });
  return { ...plain, headers };
}

function timeOf(milliseconds: unknown): string | undefined {
  const time = new Date(typeof milliseconds === "string" ? Number(milliseconds) : Number.NaN);
  return Number.isNaN(time.getTime()) ? undefined : time.toISOString();
}

/** How long a policy that was read counts as current. */
const POLICY_CACHE_MS = 60_000;
const MAX_REMEMBERED = 10_000;

/** What redriving needs of its queue. */
interface RedrivingDependencies {
  /** The source's name in error messages. */
  readonly where: string;
  readonly url: string;
  readonly client: SQSClient;
  /** The name of the dead-letter queue, without `.fifo`. */
  readonly deadLetters: string;
}

/**
 * Leaves messages to the redrive policy of their queue. SQS moves a message of any size to the dead letters once it was
 * received as often as the policy says. So a message that was added here is requeued whenever it is received, and not
 * delivered. All receivers of a queue share one of these.
 */
export class Redriving {
  readonly #dependencies: RedrivingDependencies;
  readonly #remembered = new Set<string>();
  #readAt = Number.NEGATIVE_INFINITY;
  /** The maxReceiveCount of the policy, when it was last read. */
  #maxReceives = 0;

  constructor(parts: RedrivingDependencies) {
    this.#dependencies = parts;
  }

  /** Whether a message with this receive count must be requeued at once. */
  requeues(messageId: string, receives: number): boolean {
    if (!this.#remembered.has(messageId)) return false;
    // The policy has changed since it was read: messages must not be requeued without an end.
    if (receives > this.#maxReceives) this.#remembered.delete(messageId);
    return receives <= this.#maxReceives;
  }

  /** Requeues this message from now on. */
  add(messageId: string): void {
    this.#remembered.add(messageId);
    if (this.#remembered.size <= MAX_REMEMBERED) return;
    // The oldest was moved long ago.
    const [oldest = ""] = this.#remembered;
    this.#remembered.delete(oldest);
  }

  /** Returns why SQS would not dead-letter messages of this queue; undefined if it would. Never rejects. */
  async precheck(): Promise<Exclude<DeadLetterResult, { status: "settled" | "fenced" }> | undefined> {
    if (performance.now() - this.#readAt < POLICY_CACHE_MS) return undefined;
    const { client, url, where, deadLetters } = this.#dependencies;
    try {
      const command = new GetQueueAttributesCommand({ QueueUrl: url, AttributeNames: ["RedrivePolicy"] });
      const { Attributes: { RedrivePolicy } = {} } = await client.send(command);
      const { target, maxReceives } = read(RedrivePolicy);
      if (target !== deadLetters && target !== deadLetters + FIFO) {
        const found = target === undefined ? "there is none" : `it leads to "${target}"`;
        const text = `the message is too large to copy, and SQS dead-letters it only if ${where} has a redrive policy to "${deadLetters}": ${found}; set it, or start with declare: "create", or run "anybroker topology create"`;
        return { status: "refused", error: new MessagingError("conflict", text) };
      }
      this.#readAt = performance.now();
      this.#maxReceives = maxReceives;
      return undefined;
    } catch (cause) {
      const error = asMessagingError(`looking for the redrive policy of ${where}`, cause);
      return error.code === "unauthorized" || error.code === "not-found"
        ? { status: "refused", error }
        : { status: "unknown", cause: error };
    }
  }
}

/** The target queue of a policy, and its maxReceiveCount. */
function read(policy = "{}"): { readonly target: string | undefined; readonly maxReceives: number } {
  let value: { readonly deadLetterTargetArn?: unknown; readonly maxReceiveCount?: unknown } = {};
  try {
    value = JSON.parse(policy) ?? {};
  } catch {
    // An invalid policy has no target.
  }
  const { deadLetterTargetArn: arn, maxReceiveCount } = value;
  return { target: typeof arn === "string" ? arn.split(":").at(-1) : undefined, maxReceives: Number(maxReceiveCount) };
}
