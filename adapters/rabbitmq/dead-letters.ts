import type { ConsumeMessage } from "amqplib";
import type { DeliveryToken, IncomingMessage } from "../../core/adapter.ts";
import { describeAddress, type WorkAddress } from "../../core/address.ts";
import { HEADER, withHeaders } from "../../core/system-headers.ts";
import { incoming, timestampOf } from "./message-codec.ts";
import { OWN_PREFIX } from "./names.ts";
import type { ServerVersion } from "./server-version.ts";

/**
 * How often a queue delivered a message before, in vain. Only quorum queues count, in the header `x-delivery-count`, and
 * they write it at redeliveries alone: at a first delivery the header is the sender's, as that of a shovel is, which
 * copies the count of another queue. Classic queues never write it.
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
   * Whether the count may be another queue's: dead-lettering and local shovels bring it along, and at the first delivery
   * it stands for the acquisitions, too. Given back once, which is no failure, the message comes with its acquisitions
   * here alone, so that a count that is this queue's is below them, and one that was brought along is not.
   */
  isDoubtful(message: ConsumeMessage): boolean {
    if (!this.#countsAcquisitions || !this.#isQuorum || !message.fields.redelivered) return false;
    const { failed, acquired } = countsOf(message);
    // Of a count of 1 the second delivery would tell no more.
    return failed !== undefined && failed === acquired && failed > 1;
  }

  of(message: ConsumeMessage): number {
    if (!message.fields.redelivered) return 0;
    const { failed, acquired } = countsOf(message);
    // Had a quorum queue redelivered it, there would be a count.
    if ((this.#countsAcquisitions ? acquired : failed) === undefined) this.#isQuorum = false;
    if (!this.#isQuorum) return 1;
    // Only given back so far, which is no failure.
    if (failed === undefined) return 0;
    // Each failure is an acquisition. Below the failures they are those here, and one of them was to learn this.
    if (this.#countsAcquisitions && (acquired as number) < failed) return (acquired as number) - 1;
    return failed;
  }
}

/** As the server writes them. What else stands under these names is a sender's. */
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
