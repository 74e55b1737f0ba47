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
import type { AwsResource } from "./registry.ts";
import { queuePolicy } from "./topology/queues.ts";

const WAIT_SECONDS = 2;
/** Short, so that the queue of a killed process keeps little. */
const RETENTION_SECONDS = "300";
const MAX_FAILURES = 5;

/** A watched topic. */
interface SqsWatch {
  readonly topic: string;
  readonly resource: AwsResource;
  /** The prefix of the queue's name. */
  readonly prefix: string;
  readonly watcher: Watcher<Message>;
}

/** Shows the events of an SNS topic through a temporary queue, which is deleted with its subscription at the end. */
export async function watchTopic(
  clients: Clients,
  { topic, resource, prefix, watcher }: SqsWatch,
): Promise<() => Promise<void>> {
  const { sqs, sns } = clients.control;
  const where = `watching topic "${topic}"`;
  const removals: (() => Promise<unknown>)[] = [];
  const removeAll = async (): Promise<void> => {
    // In reverse order: nothing should be delivered to a deleted queue.
    for (const remove of removals.splice(0).reverse()) await remove();
  };
  try {
    // No destination's name ends in a single `_`.
    const own = underPrefix(prefix, `anybroker-tail-${randomUUID().slice(0, 8)}_`);
    const QueueName = own + (resource.fifo ? FIFO : "");
    const fifo: Record<string, string> = resource.fifo ? { FifoQueue: "true" } : {};
    const Attributes = { MessageRetentionPeriod: RETENTION_SECONDS, ...fifo };
    const { QueueUrl = "" } = await sqs.send(new CreateQueueCommand({ QueueName, Attributes }));
    removals.push(() => sqs.send(new DeleteQueueCommand({ QueueUrl })));
    const arn = await queueArn(clients, QueueUrl, resource.locator);
    const { SubscriptionArn } = await sns.send(
      new SubscribeCommand({
        TopicArn: resource.locator,
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
          `${QueueName} and its subscription could not be deleted; delete them manually`,
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
      const startedAt = performance.now();
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
      const pauseMs = early.pauseMs(performance.now() - startedAt, Messages.length);
      // Ended early by the abort when the watch ends.
      if (pauseMs > 0) await wait(pauseMs, undefined, { signal: ended }).catch(() => {});
      if (Messages.length === 0 || ended.aborted) continue;
      await watcher.seen(Messages.map((message) => ({ token: undefined, ...decodeMessage(message) })));
      const Entries = Messages.map(({ ReceiptHandle }, index) => ({ Id: String(index), ReceiptHandle }));
      await clients.control.sqs.send(new DeleteMessageBatchCommand({ QueueUrl, Entries }));
    } catch (error) {
      if (++failures >= MAX_FAILURES) throw error;
    }
  }
}
