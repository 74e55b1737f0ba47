import type { Channel } from "amqplib";
import { isMessagingError } from "../../core/errors.ts";
import { within } from "./deadline.ts";
import type { Link } from "./link.ts";

/** Opens a channel whose closing by the server throws nothing by itself: the operation that caused it rejects. */
export async function openChannel(link: Link, ms: number): Promise<Channel> {
  const channel = await answered(link, ms, "open a channel", link.model.createChannel());
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
    throw error;
  }
}
