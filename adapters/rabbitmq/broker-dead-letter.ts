import type { ConsumeMessage } from "amqplib";
import type { DeliveryToken, IncomingMessage } from "../../core/adapter.ts";
import { describeAddress, type WorkAddress } from "../../core/address.ts";
import { HEADER, withHeaders } from "../../core/system-headers.ts";
import { timestampOf } from "./headers.ts";
import { OWN_PREFIX } from "./names.ts";
import { incoming } from "./wire.ts";

/** RabbitMQ's words for why it dead-lettered a message, in the engine's. */
const REASONS = new Map([
  ["expired", { reason: "expired", text: "RabbitMQ moved it: it was older than its time to live" }],
  ["delivery_limit", { reason: "crashed", text: "RabbitMQ moved it: it was delivered as often as its queue allows" }],
  [
    "rejected",
    {
      reason: "rejected",
      text: "RabbitMQ moved it: a consumer rejected it, as anybroker does with what is too large for a copy",
    },
  ],
  ["maxlen", { reason: "rejected", text: "RabbitMQ moved it: its queue was full" }],
]);

interface Death {
  readonly reason?: unknown;
  readonly queue?: unknown;
  readonly time?: unknown;
}

/**
 * A delivery from dead letters. What the engine put there tells why by its headers; what RabbitMQ itself moved there is
 * given the same headers, from its record of the message's deaths.
 */
export function incomingDeadLetter(
  of: WorkAddress,
  message: ConsumeMessage,
  token: DeliveryToken,
  redeliveries: number,
): IncomingMessage<ConsumeMessage> {
  const plain = incoming(message, token, redeliveries);
  if (plain.headers[HEADER.deadReason] !== undefined) return plain;
  const deaths: unknown = message.properties.headers?.["x-death"];
  const death = Array.isArray(deaths) ? (deaths as (Death | null)[]).find(isOfWork) : undefined;
  const known = typeof death?.reason === "string" ? REASONS.get(death.reason) : undefined;
  if (death === undefined || death === null || known === undefined) return plain;
  const time = timestampOf(death.time);
  const headers = withHeaders(plain.headers, {
    [HEADER.deadReason]: known.reason,
    [HEADER.deadOrigin]: describeAddress(of),
    [HEADER.deadErrorClass]: "MessagingError",
    [HEADER.deadError]: known.text,
    [HEADER.deadFirstAt]: plain.headers[HEADER.firstFailedAt] ?? time,
    [HEADER.deadLastAt]: time,
  });
  return { ...plain, headers };
}

/** Whether it died on a queue of ours, and did not merely wait there for its delay to pass. */
function isOfWork(death: Death | null): boolean {
  return typeof death?.queue === "string" && !death.queue.startsWith(OWN_PREFIX);
}
