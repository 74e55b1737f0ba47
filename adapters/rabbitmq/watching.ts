import type { ConsumeMessage } from "amqplib";
import type { Watcher } from "../../core/adapter.ts";
import { MessagingError } from "../../core/errors.ts";
import { type Connection, openChannel } from "./connection.ts";
import { DELIVERY_EXCHANGE, topicBinding } from "./delay-levels.ts";
import { isOverPrefetch, operationError } from "./errors.ts";
import { incoming } from "./message-codec.ts";
import { exchangeName } from "./names.ts";

/** What is not looked at in time is let go, from the oldest: nobody else misses it. */
const MOST_WAITING = 10_000;
const PREFETCH = 100;

/** Shows what comes to a topic's exchange, by a queue of the connection's own: it is gone with it, whatever happens. */
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
      arguments: { "x-max-length": MOST_WAITING },
    }));
    await channel.bindQueue(queue, exchange, "#");
    // Where delayed events come from when they are due.
    await channel.bindQueue(queue, DELIVERY_EXCHANGE, topicBinding(exchange, "#"));
    await channel.prefetch(PREFETCH);
    channel.once("close", () => end("the channel was closed"));
    await channel.consume(queue, (message) => {
      if (message === null) {
        end("the queue is gone");
        return;
      }
      if (isOver) return;
      if (isOverPrefetch(++waiting, PREFETCH)) {
        end("the server gives more than the prefetch that it was asked for");
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
      link.words.error(error),
      `watch topic "${topic}"`,
      "see that its exchange stands, and the right to configure amq.gen-*",
    );
  }
  return async () => {
    isOver = true;
    await last;
    // With the channel alone it would go a moment later, and count until then as one who takes the topic's events.
    await channel.deleteQueue(queue).catch(() => {});
    await channel.close().catch(() => {});
  };
}
