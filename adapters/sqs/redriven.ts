import type { Message } from "@aws-sdk/client-sqs";
import type { IncomingMessage } from "../../core/adapter.ts";
import { describeAddress, type WorkAddress } from "../../core/address.ts";
import { HEADER, withHeaders } from "../../core/system-headers.ts";
import { decodeMessage } from "./message.ts";

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
