import { PublishBatchCommand } from "@aws-sdk/client-sns";
import { SendMessageBatchCommand, SendMessageCommand } from "@aws-sdk/client-sqs";
import type { OutgoingMessage, SendReport, SendResult } from "../../core/adapter.ts";
import { type Address, describeAddress } from "../../core/address.ts";
import { MessagingError } from "../../core/errors.ts";
import { MAX_QUEUE_BYTES, MAX_TOPIC_BYTES } from "./capabilities.ts";
import type { Clients } from "./connection.ts";
import { asCause, asMessagingError, entryResult, isAnswer, isMissing, requestResult } from "./errors.ts";
import { deduplicationId, encodeMessage, isAccepted, messageGroup, type WireMessage } from "./message-codec.ts";
import type { AwsResource, Registry } from "./registry.ts";

/** The most entries of a request to AWS. */
export const MAX_ENTRIES = 10;

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

/** An answer for a batch. An entry that is in neither list may be stored or not. */
interface Answer {
  readonly Successful?: readonly { readonly Id?: string | undefined }[] | undefined;
  readonly Failed?: readonly Failed[] | undefined;
}

const ALONE: Answer = Object.freeze({ Successful: [{ Id: "0" }] });

/** The events of a sender. */
interface PublisherEvents {
  /** AWS did not answer. */
  unanswered(cause: unknown): void;
  /** The destination is gone, or is still not found. Resolves with why; undefined if it exists again. */
  missing(address: Address, wasKnown: boolean): Promise<MessagingError | undefined>;
}

/** Sends batches, and reports the result of each message. */
export class Publisher {
  readonly #clients: Clients;
  readonly #registry: Registry;
  readonly #events: PublisherEvents;

  constructor(clients: Clients, registry: Registry, events: PublisherEvents) {
    this.#clients = clients;
    this.#registry = registry;
    this.#events = events;
  }

  send(to: Address, batch: readonly OutgoingMessage[], report: SendReport): void {
    // Nobody waits for it: an unhandled rejection would end the process.
    this.#send(to, batch, report).catch((cause: unknown) => {
      for (const index of batch.keys()) report(index, { status: "unknown", cause });
    });
  }

  async #send(to: Address, batch: readonly OutgoingMessage[], report: SendReport): Promise<void> {
    let resource = this.#registry.known(to);
    try {
      resource ??= await this.#registry.find(to);
    } catch (error) {
      let failure: MessagingError | undefined = asMessagingError(`sending to ${describeAddress(to)}`, error);
      const cause = failure;
      // It may be under way to be created again.
      if (failure.code === "not-found") failure = await this.#events.missing(to, false);
      const result: SendResult = failure === undefined ? { status: "unknown", cause } : lookupResult(failure);
      for (const index of batch.keys()) report(index, result);
      return;
    }
    this.#sendTo(to, resource, batch, report);
  }

  #sendTo(to: Address, resource: AwsResource, batch: readonly OutgoingMessage[], report: SendReport): void {
    const max = resource.kind === "topic" ? MAX_TOPIC_BYTES : MAX_QUEUE_BYTES;
    let entries: Entry[] = [];
    let bytes = 0;
    const flush = (): void => {
      if (entries.length > 0) void this.#request(to, resource, entries, report);
      entries = [];
      bytes = 0;
    };
    // SNS has no delays, and FIFO queues none for single messages: there the consumer waits until the message is due.
    const delays = resource.kind === "queue" && !resource.fifo;
    const direct = ("of" in to ? to.of : to).kind === "subscription";
    for (const [index, message] of batch.entries()) {
      const dueAt = !delays && message.delayMs > 0 ? Date.now() + message.delayMs : undefined;
      const wire = encodeMessage(message, { dueAt, direct });
      const error = wire.bytes > max ? tooLarge(to, wire.bytes, max) : invalidRoutingKey(to, message);
      if (error !== undefined) {
        report(index, { status: "rejected", error });
        continue;
      }
      if (entries.length === MAX_ENTRIES || bytes + wire.bytes > max) flush();
      entries.push({ index, message, wire });
      bytes += wire.bytes;
    }
    flush();
  }

  /** Never rejects. */
  async #request(to: Address, resource: AwsResource, entries: readonly Entry[], report: SendReport): Promise<void> {
    try {
      await this.#ask(to, resource, entries, report);
    } catch (cause) {
      for (const { index } of entries) report(index, { status: "unknown", cause });
    }
  }

  async #ask(to: Address, resource: AwsResource, entries: readonly Entry[], report: SendReport): Promise<void> {
    const where = `sending to ${describeAddress(to)}`;
    let answer: Answer;
    try {
      answer =
        resource.kind === "topic" ? await this.#publish(resource, entries) : await this.#enqueue(to, resource, entries);
    } catch (error) {
      await this.#failed(to, resource, entries, report, error);
      return;
    }
    const failures = new Map(answer.Failed?.map((failure) => [failure.Id, failure]));
    const stored = new Set(answer.Successful?.map(({ Id }) => Id));
    for (const [position, { index, wire }] of entries.entries()) {
      const failure = failures.get(String(position));
      if (failure !== undefined) report(index, entryResult(where, failure, wire));
      else if (stored.has(String(position))) report(index, { status: "confirmed" });
      else report(index, { status: "unknown", cause: new Error(`${where}: the service did not report a result`) });
    }
  }

  async #failed(
    to: Address,
    resource: AwsResource,
    entries: readonly Entry[],
    report: SendReport,
    error: unknown,
  ): Promise<void> {
    let result: SendResult | undefined;
    if (isMissing(error)) {
      this.#registry.forget(to);
      const failure = await this.#events.missing(to, true);
      result = failure === undefined ? { status: "unknown", cause: asCause(error) } : lookupResult(failure);
    } else {
      result = requestResult(`sending to ${describeAddress(to)}`, error, entries.length);
    }
    if (result === undefined) {
      // One of them is wrong, and AWS does not say which.
      for (const entry of entries) void this.#request(to, resource, [entry], report);
      return;
    }
    if (!isAnswer(error) && result.status === "unknown") this.#events.unanswered(error);
    for (const { index } of entries) report(index, result);
  }

  async #enqueue(to: Address, { locator, fifo }: AwsResource, entries: readonly Entry[]): Promise<Answer> {
    const fields = ({ message, wire }: Entry) => ({
      MessageBody: wire.body,
      MessageAttributes: wire.attributes,
      ...(wire.system === undefined ? {} : { MessageSystemAttributes: wire.system }),
      ...(fifo ? fifoFields(to, message) : { ...delayFields(message), ...groupFields(wire) }),
    });
    const [first] = entries;
    if (first !== undefined && entries.length === 1) {
      // A single message costs less this way. Its failure is an error, not an entry.
      await this.#clients.sqs.send(new SendMessageCommand({ QueueUrl: locator, ...fields(first) }));
      return ALONE;
    }
    const Entries = entries.map((entry, position) => ({ Id: String(position), ...fields(entry) }));
    return await this.#clients.sqs.send(new SendMessageBatchCommand({ QueueUrl: locator, Entries }));
  }

  async #publish({ locator, fifo }: AwsResource, entries: readonly Entry[]): Promise<Answer> {
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

/** The result of all messages whose destination was not found. */
function lookupResult(error: MessagingError): SendResult {
  const isTemporary = error.code === "unreachable" || error.code === "overloaded";
  return isTemporary ? { status: "unknown", cause: error } : { status: "rejected", error };
}

function delayFields({ delayMs }: OutgoingMessage): { DelaySeconds?: number } {
  return delayMs > 0 ? { DelaySeconds: Math.ceil(delayMs / 1_000) } : {};
}

/** A copy keeps the message group of a standard queue, so that fair queues treat it alike. */
function groupFields({ group }: WireMessage): { MessageGroupId?: string } {
  return group === undefined ? {} : { MessageGroupId: group };
}

function fifoFields(
  to: Address | undefined,
  message: OutgoingMessage,
): { MessageGroupId: string; MessageDeduplicationId: string } {
  const deduplication = deduplicationId(message);
  // Dead letters have no order, and one that is being read must not block the others of its key.
  const group = to?.kind === "dead-letters" ? deduplication : messageGroup(message);
  return { MessageGroupId: group, MessageDeduplicationId: deduplication };
}

/** SNS filters by the routing key as it is, so it cannot be escaped. */
function invalidRoutingKey(to: Address, { routingKey }: OutgoingMessage): MessagingError | undefined {
  if (routingKey === undefined || isAccepted(routingKey)) return undefined;
  return new MessagingError(
    "invalid",
    `a message to ${describeAddress(to)} has a routing key with characters that SQS and SNS refuse: control characters, lone surrogates, U+FFFE or U+FFFF; remove them`,
  );
}

function tooLarge(to: Address, bytes: number, max: number): MessagingError {
  return new MessagingError(
    "too-large",
    `a message to ${describeAddress(to)} has ${bytes} bytes, encoded and with its attributes, and SQS or SNS accepts at most ${max}; send a reference to the data instead`,
  );
}
