import type { ConsumeMessage } from "amqplib";
import type { DeliveryToken, IncomingMessage } from "../../core/adapter.ts";
import { describeAddress, type WorkAddress } from "../../core/address.ts";
import { HEADER, withHeaders } from "../../core/system-headers.ts";
import { incoming, timestampOf } from "./message-codec.ts";
import { OWN_PREFIX } from "./names.ts";
import type { ServerVersion } from "./server-version.ts";

/**
 * Counts earlier failed deliveries of a message. Only quorum queues count them, in the header `x-delivery-count`, and
 * write it at redeliveries only. At a first delivery the header comes from the sender, for example a shovel that copies
 * the count of another queue. Classic queues never write it.
 */
export class DeliveryCount {
  readonly #countsAcquisitions: boolean;
  #isQuorum: boolean;

  constructor(version: ServerVersion, isQuorum: boolean) {
    this.#countsAcquisitions = version.atLeast(4, 3);
    this.#isQuorum = isQuorum;
  }

  /** Whether the queue counts, as far as is known. */
  get isQuorum(): boolean {
    return this.#isQuorum;
  }

  /**
   * Whether the count may be another queue's. Dead-lettering and local shovels keep the count, and at the first
   * delivery the server adds it to the acquisitions. After one requeue, which is no failure, the acquisitions are this
   * queue's alone: a count of this queue is below them, and a count that was brought along is not.
   */
  isDoubtful(message: ConsumeMessage): boolean {
    if (!this.#countsAcquisitions || !this.#isQuorum || !message.fields.redelivered) return false;
    const { failed, acquired } = countsOf(message);
    // For a count of 1 a second delivery would tell nothing more.
    return failed !== undefined && failed === acquired && failed > 1;
  }

  of(message: ConsumeMessage): number {
    if (!message.fields.redelivered) return 0;
    const { failed, acquired } = countsOf(message);
    // A redelivery by a quorum queue would have a count.
    if ((this.#countsAcquisitions ? acquired : failed) === undefined) this.#isQuorum = false;
    if (!this.#isQuorum) return 1;
    // It was only requeued so far, which is no failure.
    if (failed === undefined) return 0;
    // Every failure is an acquisition. Fewer acquisitions than failures are this queue's, one of them the requeue.
    if (this.#countsAcquisitions && (acquired as number) < failed) return (acquired as number) - 1;
    return failed;
  }
}

/** The counts as the server writes them. Other values of these headers come from senders. */
function countsOf({ properties }: ConsumeMessage): Counts {
  const headers = (properties.headers ?? {}) as Record<string, unknown>;
  const count = (name: string): number | undefined => {
    const value = Object.hasOwn(headers, name) ? headers[name] : undefined;
    return Number.isSafeInteger(value) && (value as number) >= 0 ? (value as number) : undefined;
  };
  return { failed: count("x-delivery-count"), acquired: count("x-acquired-count") };
}

interface Counts {
  readonly failed: number | undefined;
  readonly acquired: number | undefined;
}

/** RabbitMQ's reasons for dead-lettering a message, as the engine's. */
const REASONS = new Map([
  ["expired", { reason: "expired", text: "RabbitMQ moved it: its time to live expired" }],
  ["delivery_limit", { reason: "crashed", text: "RabbitMQ moved it: it was delivered as often as its queue allows" }],
  [
    "rejected",
    {
      reason: "rejected",
      text: "RabbitMQ moved it: a consumer rejected it, as anybroker does with messages that are too large for a copy",
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
 * Converts a delivery from dead letters. Copies of the engine have the reason in their headers. Messages that RabbitMQ
 * moved get the same headers, from its `x-death`.
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

/** Whether it died on a work queue, not on a wait queue of the delays. */
function isOfWork(death: Death | null): boolean {
  return typeof death?.queue === "string" && !death.queue.startsWith(OWN_PREFIX);
}
