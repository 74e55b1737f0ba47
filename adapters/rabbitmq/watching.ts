import type { ConsumeMessage } from "amqplib";
import type { Watcher } from "../../core/adapter.ts";
import { MessagingError } from "../../core/errors.ts";
import { type Connection, openChannel } from "./connection.ts";
import { DELIVERY_EXCHANGE, topicBinding } from "./delay-levels.ts";
import { isOverPrefetch, operationError } from "./errors.ts";
import { incoming } from "./message-codec.ts";
import { exchangeName } from "./names.ts";

/** The watch's queue drops the oldest messages beyond this number. */
const MAX_WAITING = 10_000;
const PREFETCH = 100;

/** Shows messages of a topic's exchange through an exclusive queue, which RabbitMQ deletes with the connection. */
export async function watchTopic(
  link: Connection,
  requestTimeoutMs: number,
  topic: string,
  watcher: Watcher<ConsumeMessage>,
): Promise<() => Promise<void>> {
  const exchange = exchangeName(topic);
  const channel = await openChannel(link, requestTimeoutMs);
  let last: Promise<void> = Promise.resolve();
  let waiting = 0;
  let isOver = false;
  const end = (why: string): void => {
    if (isOver) return;
    isOver = true;
    watcher.ended(new MessagingError("unreachable", `watching topic "${topic}" ended: ${why}; watch again`));
  };
  let queue: string;
  try {
    ({ queue } = await channel.assertQueue("", {
      exclusive: true,
      autoDelete: true,
      durable: false,
      arguments: { "x-max-length": MAX_WAITING },
    }));
    await channel.bindQueue(queue, exchange, "#");
    // Due delayed events come from this exchange.
    await channel.bindQueue(queue, DELIVERY_EXCHANGE, topicBinding(exchange, "#"));
    await channel.prefetch(PREFETCH);
    channel.once("close", () => end("the channel was closed"));
    await channel.consume(queue, (message) => {
      if (message === null) {
        end("its queue was deleted");
        return;
      }
      if (isOver) return;
      if (isOverPrefetch(++waiting, PREFETCH)) {
        end("the server delivers more than twice the prefetch");
        channel.close().catch(() => {});
        return;
      }
      last = last.then(async () => {
        waiting--;
        if (isOver) return;
        await watcher.seen([incoming(message, undefined, 0)]);
        if (!isOver) channel.ack(message);
      });
    });
  } catch (error) {
    isOver = true;
    await channel.close().catch(() => {});
    throw operationError(
      link.redactor.error(error),
      `watch topic "${topic}"`,
      "check that its exchange exists, and that the user may configure amq.gen-*",
    );
  }
  return async () => {
    isOver = true;
    await last;
    // If only the channel closed, the queue would exist a moment longer and count as a subscription of the topic.
    await channel.deleteQueue(queue).catch(() => {});
    await channel.close().catch(() => {});
  };
}
