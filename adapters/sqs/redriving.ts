import { GetQueueAttributesCommand, type Message, type SQSClient } from "@aws-sdk/client-sqs";
import type { DeadLetterResult, IncomingMessage } from "../../core/adapter.ts";
import { describeAddress, type WorkAddress } from "../../core/address.ts";
import { MessagingError } from "../../core/errors.ts";
import { HEADER, withHeaders } from "../../core/system-headers.ts";
import { asMessagingError } from "./errors.ts";
import { decodeMessage } from "./message-codec.ts";
import { FIFO } from "./names.ts";

/**
 * A message from dead letters. What the engine put there tells why by its headers; what SQS itself moved there, because
 * it had been received too often, is given the same headers.
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
      "SQS moved it: it was received as often as its queue allows, and never settled; or it was too large for any copy, and left to SQS",
    [HEADER.deadFirstAt]: plain.headers[HEADER.firstFailedAt] ?? timeOf(SentTimestamp),
    [HEADER.deadLastAt]: timeOf(ApproximateFirstReceiveTimestamp ?? SentTimestamp),
  });
  return { ...plain, headers };
}

function timeOf(milliseconds: string | undefined): string | undefined {
  const time = new Date(Number(milliseconds));
  return Number.isNaN(time.getTime()) ? undefined : time.toISOString();
}

/** How long a policy that was read counts. */
const BELIEVED_MS = 60_000;
const MOST_REMEMBERED = 10_000;

/** What leaving messages to a redrive policy takes. */
interface RedrivingParts {
  /** Names the source in messages to people. */
  readonly where: string;
  readonly url: string;
  readonly client: SQSClient;
  /** The name of the queue of dead letters, without `.fifo`. */
  readonly deadLetters: string;
}

/**
 * Leaves messages of a queue to its redrive policy. SQS moves a message to the dead letters, whatever its size, when it was
 * received as often as the policy says: so a message that was added here is given back as soon as it comes, again and
 * again, and is not delivered. All receivers of a queue share one of these.
 */
export class Redriving {
  readonly #parts: RedrivingParts;
  readonly #remembered = new Set<string>();
  #readAt = Number.NEGATIVE_INFINITY;
  /** After how many times SQS moves a message, when that was last read. */
  #maxReceives = 0;

  constructor(parts: RedrivingParts) {
    this.#parts = parts;
  }

  /** Whether a message that was received so often is to be given back at once. */
  givesBack(messageId: string, receives: number): boolean {
    if (!this.#remembered.has(messageId)) return false;
    // The policy has changed since it was read: nothing is given back without an end.
    if (receives > this.#maxReceives) this.#remembered.delete(messageId);
    return receives <= this.#maxReceives;
  }

  /** From now on it is given back. */
  add(messageId: string): void {
    this.#remembered.add(messageId);
    if (this.#remembered.size <= MOST_REMEMBERED) return;
    // The oldest makes room: it was moved long ago.
    const [oldest = ""] = this.#remembered;
    this.#remembered.delete(oldest);
  }

  /** Why SQS does not move messages of this queue to its dead letters; undefined if it does. Never rejects. */
  async precheck(): Promise<Exclude<DeadLetterResult, { status: "settled" | "fenced" }> | undefined> {
    if (performance.now() - this.#readAt < BELIEVED_MS) return undefined;
    const { client, url, where, deadLetters } = this.#parts;
    try {
      const command = new GetQueueAttributesCommand({ QueueUrl: url, AttributeNames: ["RedrivePolicy"] });
      const { Attributes: { RedrivePolicy } = {} } = await client.send(command);
      const { target, maxReceives } = read(RedrivePolicy);
      if (target !== deadLetters && target !== deadLetters + FIFO) {
        const found = target === undefined ? "there is none" : `it leads to "${target}"`;
        const text = `it is too large to be copied, and SQS moves it only by a redrive policy of ${where} to "${deadLetters}": ${found}; set it, or start with declare: "create" or "anybroker topology create"`;
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

/** The name of the queue that a policy leads to, and after how many times a message was received. */
function read(policy = "{}"): { readonly target: string | undefined; readonly maxReceives: number } {
  let value: { readonly deadLetterTargetArn?: unknown; readonly maxReceiveCount?: unknown } = {};
  try {
    value = JSON.parse(policy) ?? {};
  } catch {
    // What is no policy leads nowhere.
  }
  const { deadLetterTargetArn: arn, maxReceiveCount } = value;
  return { target: typeof arn === "string" ? arn.split(":").at(-1) : undefined, maxReceives: Number(maxReceiveCount) };
}
