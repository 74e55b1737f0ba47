import type { Channel } from "amqplib";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { answered, openChannel } from "./channels.ts";
import { LEVELS, levelName } from "./delay-levels.ts";
import { NOT_FOUND, replyCode } from "./errors.ts";
import type { Thing } from "./known.ts";
import type { Link } from "./link.ts";

/** What was found of some queues and exchanges. */
export interface Survey {
  readonly gone: readonly Thing[];
  /** What this user may not look at. */
  readonly refused: readonly Thing[];
  /** How many messages are ready on the queues that stand. */
  readonly ready: ReadonlyMap<Thing, number>;
}

/** Requests on one channel wait for each other, so several channels share the work. */
const LANES = 4;

/** Looks which of these stand. Rejects if it could not look. */
export async function survey(link: Link, things: Iterable<Thing>, requestTimeoutMs: number): Promise<Survey> {
  const gone: Thing[] = [];
  const refused: Thing[] = [];
  const ready = new Map<Thing, number>();
  const queue = new Set(things).values();
  const lane = async (): Promise<void> => {
    let channel: Channel | undefined;
    for (const thing of queue) {
      channel ??= await openChannel(link, requestTimeoutMs);
      try {
        const count = await answered(link, requestTimeoutMs, `look for ${thing}`, look(channel, thing));
        if (count !== undefined) ready.set(thing, count);
      } catch (error) {
        if (isMessagingError(error) || replyCode(error) === undefined) throw error;
        // The refusal closed the channel.
        channel = undefined;
        (replyCode(error) === NOT_FOUND ? gone : refused).push(thing);
      }
    }
    channel?.close().catch(() => {});
  };
  await Promise.all(Array.from({ length: LANES }, lane));
  return { gone, refused, ready };
}

async function look(channel: Channel, thing: Thing): Promise<number | undefined> {
  const name = nameOf(thing);
  if (thing.startsWith("queue ")) return (await channel.checkQueue(name)).messageCount;
  await channel.checkExchange(name);
  return undefined;
}

function nameOf(thing: Thing): string {
  return thing.slice(thing.indexOf(" ") + 1);
}

const WAIT_QUEUES = new Set<Thing>(Array.from({ length: LEVELS }, (_, level) => `queue ${levelName(level)}` as const));

/** What people are told of something that was gone and stands again. */
export function madeAgain(thing: Thing): MessagingError {
  const name = nameOf(thing);
  const text = WAIT_QUEUES.has(thing)
    ? `the wait queue "${name}" was gone, and the delayed messages in it are lost; it is made again. See that neither a policy (expires) nor an operator removes queues named anybroker.delay.…`
    : thing.startsWith("queue ")
      ? `the queue "${name}" was gone, and the messages on it are lost; it is made again. See that neither a policy (expires) nor an operator removes it`
      : `the exchange "${name}" was gone; it is made again, with what this process binds to it. Events that came meanwhile were not taken`;
  return new MessagingError("not-found", text);
}

/** What people are told of something that is gone, where this process may not make it. */
export function stillGone(thing: Thing): MessagingError {
  const text = WAIT_QUEUES.has(thing)
    ? "delayed messages do not get past it"
    : "what is meant for it is kept where it is, or refused";
  return new MessagingError(
    "not-found",
    `RabbitMQ has no ${thing.replace(" ", ' "')}" any more, and ${text}; start once with declare "create", which makes it again`,
  );
}
