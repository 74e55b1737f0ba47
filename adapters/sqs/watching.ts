import { randomUUID } from "node:crypto";
import { setTimeout as wait } from "node:timers/promises";
import { SubscribeCommand, UnsubscribeCommand } from "@aws-sdk/client-sns";
import {
  CreateQueueCommand,
  DeleteMessageBatchCommand,
  DeleteQueueCommand,
  GetQueueAttributesCommand,
  type Message,
  ReceiveMessageCommand,
  SetQueueAttributesCommand,
} from "@aws-sdk/client-sqs";
import type { Watcher } from "../../core/adapter.ts";
import { MessagingError } from "../../core/errors.ts";
import type { Clients } from "./connection.ts";
import { asCause, asMessagingError } from "./errors.ts";
import { decodeMessage } from "./message-codec.ts";
import { FIFO, underPrefix } from "./names.ts";
import { EarlyPolls } from "./receiver.ts";
import type { Place } from "./registry.ts";
import { queuePolicy } from "./topology/queues.ts";

const WAIT_SECONDS = 2;
/** So that a queue that nobody could remove, because its process was killed, holds little. */
const RETENTION_SECONDS = "300";
const MOST_FAILURES = 5;

/** What is watched, and for whom. */
interface SqsWatch {
  readonly topic: string;
  readonly place: Place;
  /** What the name of the queue begins with. */
  readonly prefix: string;
  readonly watcher: Watcher<Message>;
}

/** Shows what is published to an SNS topic, by a queue of its own, which is removed with its subscription at the end. */
export async function watchTopic(
  clients: Clients,
  { topic, place, prefix, watcher }: SqsWatch,
): Promise<() => Promise<void>> {
  const { sqs, sns } = clients.control;
  const where = `watching topic "${topic}"`;
  const removals: (() => Promise<unknown>)[] = [];
  const removeAll = async (): Promise<void> => {
    // What was made last first: nothing is to be delivered to a queue that is gone.
    for (const remove of removals.splice(0).reverse()) await remove();
  };
  try {
    // No destination's name ends in a single `_`.
    const own = underPrefix(prefix, `anybroker-tail-${randomUUID().slice(0, 8)}_`);
    const QueueName = own + (place.fifo ? FIFO : "");
    const fifo: Record<string, string> = place.fifo ? { FifoQueue: "true" } : {};
    const Attributes = { MessageRetentionPeriod: RETENTION_SECONDS, ...fifo };
    const { QueueUrl = "" } = await sqs.send(new CreateQueueCommand({ QueueName, Attributes }));
    removals.push(() => sqs.send(new DeleteQueueCommand({ QueueUrl })));
    const arn = await queueArn(clients, QueueUrl, place.locator);
    const { SubscriptionArn } = await sns.send(
      new SubscribeCommand({
        TopicArn: place.locator,
        Protocol: "sqs",
        Endpoint: arn,
        Attributes: { RawMessageDelivery: "true" },
        ReturnSubscriptionArn: true,
      }),
    );
    removals.push(() => sns.send(new UnsubscribeCommand({ SubscriptionArn })));
    const ended = new AbortController();
    const polling = poll(clients, QueueUrl, watcher, ended.signal);
    polling.catch((error: unknown) => {
      if (ended.signal.aborted) return;
      watcher.ended(asMessagingError(`${where} ended; watch again`, error));
    });
    return async () => {
      if (ended.signal.aborted) return;
      ended.abort();
      await polling.catch(() => {});
      await removeAll().catch((error: unknown) => {
        throw new MessagingError(
          "refused",
          `${QueueName} and its subscription could not be removed; remove them by hand`,
          { cause: asCause(error) },
        );
      });
    };
  } catch (error) {
    await removeAll().catch(() => {});
    throw asMessagingError(where, error);
  }
}

async function queueArn({ control: { sqs } }: Clients, QueueUrl: string, topic: string): Promise<string> {
  const { Attributes = {} } = await sqs.send(new GetQueueAttributesCommand({ QueueUrl, AttributeNames: ["QueueArn"] }));
  const { QueueArn = "" } = Attributes;
  await sqs.send(new SetQueueAttributesCommand({ QueueUrl, Attributes: { Policy: queuePolicy(QueueArn, topic) } }));
  return QueueArn;
}

async function poll(clients: Clients, QueueUrl: string, watcher: Watcher<Message>, ended: AbortSignal): Promise<void> {
  const early = new EarlyPolls(WAIT_SECONDS);
  for (let failures = 0; !ended.aborted; ) {
    try {
      const begun = performance.now();
      const { Messages = [] } = await clients.polling.send(
        new ReceiveMessageCommand({
          QueueUrl,
          MaxNumberOfMessages: 10,
          WaitTimeSeconds: WAIT_SECONDS,
          MessageAttributeNames: ["All"],
          MessageSystemAttributeNames: ["All"],
        }),
      );
      failures = 0;
      const pauseMs = early.pauseMs(performance.now() - begun, Messages.length);
      // Ended sooner by whoever watches no more.
      if (pauseMs > 0) await wait(pauseMs, undefined, { signal: ended }).catch(() => {});
      if (Messages.length === 0 || ended.aborted) continue;
      await watcher.seen(Messages.map((message) => ({ token: undefined, ...decodeMessage(message) })));
      const Entries = Messages.map(({ ReceiptHandle }, index) => ({ Id: String(index), ReceiptHandle }));
      await clients.control.sqs.send(new DeleteMessageBatchCommand({ QueueUrl, Entries }));
    } catch (error) {
      if (++failures >= MOST_FAILURES) throw error;
    }
  }
}
