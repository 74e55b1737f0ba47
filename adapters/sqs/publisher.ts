import { PublishBatchCommand } from "@aws-sdk/client-sns";
import { SendMessageBatchCommand, SendMessageCommand } from "@aws-sdk/client-sqs";
import type { OutgoingMessage, SendReport, SendResult } from "../../core/adapter.ts";
import { type Address, describeAddress } from "../../core/address.ts";
import { MessagingError } from "../../core/errors.ts";
import { MOST_QUEUE_BYTES, MOST_TOPIC_BYTES } from "./capabilities.ts";
import type { Clients } from "./connection.ts";
import { asCause, asMessagingError, entryResult, isAnswer, isMissing, requestResult } from "./errors.ts";
import { deduplicationId, encodeMessage, isCarried, messageGroup, type WireMessage } from "./message-codec.ts";
import type { Place, Registry } from "./registry.ts";

/** The most entries that AWS takes in one request. */
export const MOST_ENTRIES = 10;

interface Entry {
  readonly index: number;
  readonly message: OutgoingMessage;
  readonly wire: WireMessage;
}

interface Failed {
  readonly Id?: string | undefined;
  readonly Code?: string | undefined;
  readonly SenderFault?: boolean | undefined;
  readonly Message?: string | undefined;
}

/** What AWS says of the entries of a batch. An entry that it does not mention may be stored or not. */
interface Answer {
  readonly Successful?: readonly { readonly Id?: string | undefined }[] | undefined;
  readonly Failed?: readonly Failed[] | undefined;
}

const ALONE: Answer = Object.freeze({ Successful: [{ Id: "0" }] });

/** What a sender tells of its requests. */
interface SenderEvents {
  /** AWS gave no answer. */
  unanswered(cause: unknown): void;
  /** What was sent to is gone. Resolves with whether it stands again. */
  missing(address: Address): Promise<boolean>;
}

/** Sends batches, and says of every message what became of it. */
export class Sender {
  readonly #clients: Clients;
  readonly #registry: Registry;
  readonly #events: SenderEvents;

  constructor(clients: Clients, registry: Registry, events: SenderEvents) {
    this.#clients = clients;
    this.#registry = registry;
    this.#events = events;
  }

  send(to: Address, batch: readonly OutgoingMessage[], report: SendReport): void {
    const known = this.#registry.known(to);
    if (known !== undefined) {
      this.#sendTo(to, known, batch, report);
      return;
    }
    this.#registry.find(to).then(
      (place) => this.#sendTo(to, place, batch, report),
      (error: unknown) => {
        const where = `sending to ${describeAddress(to)}`;
        const failure = asMessagingError(where, error);
        const result: SendResult =
          failure.code === "unreachable" || failure.code === "overloaded"
            ? { status: "unknown", cause: failure }
            : { status: "rejected", error: failure };
        for (const index of batch.keys()) report(index, result);
      },
    );
  }

  #sendTo(to: Address, place: Place, batch: readonly OutgoingMessage[], report: SendReport): void {
    const most = place.kind === "topic" ? MOST_TOPIC_BYTES : MOST_QUEUE_BYTES;
    let entries: Entry[] = [];
    let bytes = 0;
    const flush = (): void => {
      if (entries.length > 0) void this.#request(to, place, entries, report);
      entries = [];
      bytes = 0;
    };
    // SNS has no delays, and a FIFO queue none for a message alone: there the engine waits at the other end.
    const delays = place.kind === "queue" && !place.fifo;
    const direct = ("of" in to ? to.of : to).kind === "subscription";
    for (const [index, message] of batch.entries()) {
      const dueAt = !delays && message.delayMs > 0 ? Date.now() + message.delayMs : undefined;
      const wire = encodeMessage(message, { dueAt, direct });
      const error = wire.bytes > most ? tooLarge(to, wire.bytes, most) : refusedRoute(to, message);
      if (error !== undefined) {
        report(index, { status: "rejected", error });
        continue;
      }
      if (entries.length === MOST_ENTRIES || bytes + wire.bytes > most) flush();
      entries.push({ index, message, wire });
      bytes += wire.bytes;
    }
    flush();
  }

  async #request(to: Address, place: Place, entries: readonly Entry[], report: SendReport): Promise<void> {
    const where = `sending to ${describeAddress(to)}`;
    let answer: Answer;
    try {
      answer = place.kind === "topic" ? await this.#publish(place, entries) : await this.#enqueue(to, place, entries);
    } catch (error) {
      await this.#failed(to, place, entries, report, error);
      return;
    }
    const failures = new Map(answer.Failed?.map((failure) => [failure.Id, failure]));
    const stored = new Set(answer.Successful?.map(({ Id }) => Id));
    for (const [position, { index, wire }] of entries.entries()) {
      const failure = failures.get(String(position));
      if (failure !== undefined) report(index, entryResult(where, failure, wire));
      else if (stored.has(String(position))) report(index, { status: "confirmed" });
      else
        report(index, { status: "unknown", cause: new Error(`${where}: the service did not say what became of it`) });
    }
  }

  async #failed(
    to: Address,
    place: Place,
    entries: readonly Entry[],
    report: SendReport,
    error: unknown,
  ): Promise<void> {
    if (isMissing(error)) this.#registry.forget(to);
    const stands = isMissing(error) && (await this.#events.missing(to));
    const result: SendResult | undefined = stands
      ? { status: "unknown", cause: asCause(error) }
      : requestResult(`sending to ${describeAddress(to)}`, error, entries.length);
    if (result === undefined) {
      // One of them is at fault, and AWS does not say which.
      for (const entry of entries) void this.#request(to, place, [entry], report);
      return;
    }
    if (!isAnswer(error) && result.status === "unknown") this.#events.unanswered(error);
    for (const { index } of entries) report(index, result);
  }

  async #enqueue(to: Address, { locator, fifo }: Place, entries: readonly Entry[]): Promise<Answer> {
    const fields = ({ message, wire }: Entry) => ({
      MessageBody: wire.body,
      MessageAttributes: wire.attributes,
      ...(wire.system === undefined ? {} : { MessageSystemAttributes: wire.system }),
      ...(fifo ? fifoFields(to, message) : { ...delayFields(message), ...groupFields(wire) }),
    });
    const [first] = entries;
    if (first !== undefined && entries.length === 1) {
      // What waits alone costs less this way. A failure is an error then, not an entry.
      await this.#clients.sqs.send(new SendMessageCommand({ QueueUrl: locator, ...fields(first) }));
      return ALONE;
    }
    const Entries = entries.map((entry, position) => ({ Id: String(position), ...fields(entry) }));
    return await this.#clients.sqs.send(new SendMessageBatchCommand({ QueueUrl: locator, Entries }));
  }

  async #publish({ locator, fifo }: Place, entries: readonly Entry[]): Promise<Answer> {
    return await this.#clients.sns.send(
      new PublishBatchCommand({
        TopicArn: locator,
        PublishBatchRequestEntries: entries.map(({ message, wire }, position) => ({
          Id: String(position),
          Message: wire.body,
          MessageAttributes: wire.attributes,
          ...(fifo ? fifoFields(undefined, message) : {}),
        })),
      }),
    );
  }
}

function delayFields({ delayMs }: OutgoingMessage): { DelaySeconds?: number } {
  return delayMs > 0 ? { DelaySeconds: Math.ceil(delayMs / 1_000) } : {};
}

/** What came to a standard queue in a group is as fair to others when it comes again. */
function groupFields({ group }: WireMessage): { MessageGroupId?: string } {
  return group === undefined ? {} : { MessageGroupId: group };
}

function fifoFields(
  to: Address | undefined,
  message: OutgoingMessage,
): { MessageGroupId: string; MessageDeduplicationId: string } {
  const deduplication = deduplicationId(message);
  // Dead letters have no order to keep, and one that is being looked at is not to hide the others of its key.
  const group = to?.kind === "dead-letters" ? deduplication : messageGroup(message);
  return { MessageGroupId: group, MessageDeduplicationId: deduplication };
}

/** Filters look at the routing key as it is, so it cannot be written in another way. */
function refusedRoute(to: Address, { routingKey }: OutgoingMessage): MessagingError | undefined {
  if (routingKey === undefined || isCarried(routingKey)) return undefined;
  return new MessagingError(
    "invalid",
    `a message to ${describeAddress(to)} has a routing key with characters that SNS refuses; leave out U+FFFE and U+FFFF`,
  );
}

function tooLarge(to: Address, bytes: number, most: number): MessagingError {
  return new MessagingError(
    "too-large",
    `a message to ${describeAddress(to)} has ${bytes} bytes as SQS and SNS count, encoded and with its attributes, and may have ${most}; send a reference to the data instead`,
  );
}
