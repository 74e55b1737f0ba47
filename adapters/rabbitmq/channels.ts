import type { Channel } from "amqplib";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { within } from "./deadline.ts";
import type { Link } from "./link.ts";

/**
 * Opens a channel whose closing by the server throws nothing by itself: the operation that caused it rejects. Rejects with
 * `overloaded` if the connection has no more of them.
 */
export async function openChannel(link: Link, ms: number): Promise<Channel> {
  const channel = await answered(link, ms, "open a channel", link.model.createChannel()).catch((error: unknown) => {
    throw isUsedUp(error) ? usedUp(link, error) : error;
  });
  channel.on("error", () => {});
  return channel;
}

/** Uses a channel of its own for something that may have it closed by the server. */
export async function withChannel<Result>(
  link: Link,
  ms: number,
  what: string,
  use: (channel: Channel) => Promise<Result>,
): Promise<Result> {
  const channel = await openChannel(link, ms);
  try {
    return await answered(link, ms, what, use(channel));
  } finally {
    // The server closed it already if the operation failed.
    channel.close().catch(() => {});
  }
}

/** Waits for an answer of the broker. A connection that owes one for too long is dead: it is cut, to be made anew. */
export async function answered<Result>(link: Link, ms: number, what: string, work: Promise<Result>): Promise<Result> {
  try {
    return await within(ms, what, work);
  } catch (error) {
    if (isMessagingError(error, "timeout")) link.cut();
    throw link.words.error(error);
  }
}

/** In amqplib's words. */
function isUsedUp(error: unknown): boolean {
  return error instanceof Error && error.message === "No channels left to allocate";
}

function usedUp({ model, where }: Link, cause: unknown): MessagingError {
  const { channelMax } = model.connection as unknown as { readonly channelMax?: number };
  const most = channelMax === undefined ? "" : ` ${channelMax}`;
  return new MessagingError(
    "overloaded",
    `all${most} channels that RabbitMQ at ${where} allows a connection (its channel_max) are in use, and each consumer has one; raise channel_max in rabbitmq.conf, or spread the consumers over several broker objects or processes`,
    { cause },
  );
}
