import type { Message } from "@aws-sdk/client-sqs";
import { encodeMessage } from "../../adapters/sqs/message-codec.ts";
import type { OutgoingMessage } from "../../core/adapter.ts";
import { outgoing } from "./outgoing.ts";
import type { Answer, Script, ScriptedAws } from "./scripted-aws.ts";

/** What the polls of single queues bring, each once; otherwise they bring nothing. */
export class Feed {
  readonly #left = new Map<string, (Answer | Script)[]>();

  constructor(aws: ScriptedAws) {
    aws.on("ReceiveMessage", async (input) => {
      const next = this.#left.get(String(input.QueueUrl).split("/").at(-1) ?? "")?.shift();
      if (typeof next === "function") return next(input);
      if (next !== undefined) return next;
      await new Promise((resolve) => setTimeout(resolve, 20));
      return { output: {} };
    });
  }

  /** The next polls of a queue bring these, one after another. */
  give(queue: string, ...answers: readonly (Answer | Script)[]): void {
    this.#left.set(queue, [...(this.#left.get(queue) ?? []), ...answers]);
  }
}

/** What a poll brings. */
export function bringing(...messages: readonly Message[]): Answer {
  return { output: { Messages: messages } };
}

/** A message of anybroker as SQS hands it out. Its receipt is `receipt-` and its id. */
export function received(message: Partial<OutgoingMessage> & { readonly id: string }, given: Message = {}): Message {
  const { body, attributes } = encodeMessage(outgoing(message));
  return {
    MessageId: `aws-${message.id}`,
    ReceiptHandle: `receipt-${message.id}`,
    Body: body,
    MessageAttributes: attributes,
    ...given,
    Attributes: { ApproximateReceiveCount: "1", ...given.Attributes },
  };
}
