import { setTimeout } from "node:timers/promises";
import type { Channel } from "amqplib";
import { DECLARE_IT, isMessagingError, MessagingError } from "../../core/errors.ts";
import { answered, openChannel } from "./channels.ts";
import { DELIVERY_EXCHANGE, LEVELS, levelName, UNDELIVERED_EXCHANGE, UNDELIVERED_QUEUE } from "./delay-levels.ts";
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

const LEVEL_NAMES: readonly string[] = Array.from({ length: LEVELS }, (_, level) => levelName(level));
const WAIT_QUEUES: ReadonlySet<Thing> = new Set(LEVEL_NAMES.map((name) => `queue ${name}` as const));
const DELAY_EXCHANGES: readonly Thing[] = [DELIVERY_EXCHANGE, ...LEVEL_NAMES].map(
  (name) => `exchange ${name}` as const,
);

/** What every delayed message passes, or may end at. */
export const DELAY_THINGS: readonly Thing[] = [
  ...DELAY_EXCHANGES,
  ...WAIT_QUEUES,
  `exchange ${UNDELIVERED_EXCHANGE}`,
  `queue ${UNDELIVERED_QUEUE}`,
];

/** How long another process that starts may be between two steps. */
const BETWEEN_STEPS_MS = 1_000;

/**
 * The wait queues that were removed since delays were set up: their exchanges stand, and nobody is about to make them.
 * That is how a policy shows that ran while no process did.
 */
export async function removedWaitQueues(link: Link, requestTimeoutMs: number): Promise<readonly Thing[]> {
  const { gone } = await survey(link, DELAY_THINGS, requestTimeoutMs);
  const missing = gone.filter((thing) => WAIT_QUEUES.has(thing));
  if (missing.length === 0 || DELAY_EXCHANGES.some((exchange) => gone.includes(exchange))) return [];
  await setTimeout(BETWEEN_STEPS_MS);
  const still = await survey(link, WAIT_QUEUES, requestTimeoutMs);
  return still.gone.length === missing.length ? missing : [];
}

/** What people are told of things that were gone and stand again. */
export function madeAgain(things: readonly Thing[]): readonly MessagingError[] {
  const [first, ...others] = [...WAIT_QUEUES]
    .filter((thing) => things.includes(thing))
    .map((thing) => `"${nameOf(thing)}"`);
  const texts = things.filter((thing) => !WAIT_QUEUES.has(thing)).map(textOf);
  if (first !== undefined) {
    const what = others.length === 0 ? `wait queue ${first} was` : `wait queues ${[first, ...others].join(", ")} were`;
    const next = "see that neither a policy (expires) nor an operator removes queues named anybroker.delay.…";
    texts.unshift(`the ${what} gone, and the delayed messages there are lost; made again. Now ${next}`);
  }
  return texts.map((text) => new MessagingError("not-found", text));
}

function textOf(thing: Thing): string {
  const name = nameOf(thing);
  return thing.startsWith("queue ")
    ? `the queue "${name}" was gone, and the messages on it are lost; made again. Now see that neither a policy (expires) nor an operator removes it`
    : `the exchange "${name}" was gone; made again, with what this process binds to it. Events that came meanwhile were not taken`;
}

/** What people are told of something that is gone, where this process may not make it. */
export function stillGone(thing: Thing): MessagingError {
  const text = WAIT_QUEUES.has(thing)
    ? "delayed messages do not get past it"
    : "what is meant for it is kept where it is, or refused";
  return new MessagingError(
    "not-found",
    `RabbitMQ has no ${thing.replace(" ", ' "')}" any more, and ${text}; ${DECLARE_IT}`,
  );
}
