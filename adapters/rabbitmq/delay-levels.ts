import { createHash } from "node:crypto";

/*
 * A delay is a number of units of 32 ms, written in bits. Each bit has a level: a topic exchange, and a wait queue
 * whose messages expire after 32 ms * 2^level. A message enters at the level of its highest bit. If the bit of a level
 * is 1, the level's exchange sends the message to the level's wait queue; if it is 0, to the exchange of the next lower
 * level. Messages that expire in the wait queue go to the next lower level too. Below level 0, the delivery exchange
 * sends the message to its destination. So 26 wait queues serve all delays and destinations, and no message waits
 * behind one with a longer delay.
 *
 * The routing key has all bits, highest first, then the target: `0.0.….1.0.q.<queue>` or `….t.<topic>.<routing key>`.
 */

/** The number of levels, each with an exchange and a wait queue. */
export const LEVELS = 26;

/** The unit of delays in milliseconds; delays are rounded up to a multiple. */
export const UNIT_MS = 32;

/** The longest delay in one hop: 24.8 days. */
export const MAX_DELAY_MS = (2 ** LEVELS - 1) * UNIT_MS;

/** AMQP's limit on a routing key, in bytes. */
export const MAX_ROUTING_KEY_BYTES = 255;

/** Routes delayed messages to their destinations when they are due. */
export const DELIVERY_EXCHANGE = "anybroker.delay.deliver";

/** Gets delayed messages whose destination was deleted, so that they are neither lost nor hold up others. */
export const UNDELIVERED_EXCHANGE = "anybroker.delay.undelivered";

export const UNDELIVERED_QUEUE = "anybroker.delay.undelivered";

/** The name of a level's exchange and of its wait queue. */
export function levelName(level: number): string {
  return `anybroker.delay.${level}`;
}

/** Milliseconds that a level's wait queue holds a message. */
export function levelMs(level: number): number {
  return UNIT_MS * 2 ** level;
}

/** Where messages go after a level: the next lower level, or the delivery exchange. */
export function belowLevel(level: number): string {
  return level === 0 ? DELIVERY_EXCHANGE : levelName(level - 1);
}

/** The binding pattern for routing keys whose bit of this level is 1 or 0. */
export function levelPattern(level: number, bit: 0 | 1): string {
  return `${"*.".repeat(LEVELS - 1 - level)}${bit}.#`;
}

/** The exchange and routing key for a delayed message. `target` is from {@link queueTarget} or {@link topicTarget}. */
export function delayedRoute(delayMs: number, target: string): { exchange: string; routingKey: string } {
  const units = Math.max(1, Math.ceil(delayMs / UNIT_MS));
  const bits = units.toString(2);
  if (bits.length > LEVELS) throw new RangeError(`a delay of ${delayMs} ms is longer than ${MAX_DELAY_MS} ms`);
  const words = [...bits.padStart(LEVELS, "0")].join(".");
  return { exchange: levelName(bits.length - 1), routingKey: `${words}.${target}` };
}

/** The end of a routing key that leads to a queue. */
export function queueTarget(queue: string): string {
  return `q.${word(queue)}`;
}

/** The end of a routing key that leads to a topic. */
export function topicTarget(exchange: string, routingKey: string): string {
  return routingKey === "" ? `t.${word(exchange)}` : `t.${word(exchange)}.${routingKey}`;
}

/** The pattern that binds a queue to the delivery exchange for its own delayed messages. */
export function queueBinding(queue: string): string {
  return `${"*.".repeat(LEVELS)}${queueTarget(queue)}`;
}

/** The pattern that binds a subscription's queue to the delivery exchange for delayed events. */
export function topicBinding(exchange: string, filter: string): string {
  return `${"*.".repeat(LEVELS)}t.${word(exchange)}.${filter}`;
}

const BITS = new RegExp(`^(?:[01]\\.){${LEVELS}}([qt])\\.[^.]+(?:\\.(.*))?$`);

/** The routing key of an event before it was delayed; undefined for messages to a queue. */
export function routingKeyBeforeDelay(routingKey: string): string | undefined {
  const [, kind, rest] = BITS.exec(routingKey) ?? [];
  return kind === "t" ? rest : undefined;
}

const MAX_WORD_LENGTH = 150;

/** A name as one word of a routing key: names have no `/`. Longer names are written as their SHA-256. */
function word(name: string): string {
  if (name.length > MAX_WORD_LENGTH) return `~${createHash("sha256").update(name).digest("hex")}`;
  return name.replaceAll(".", "/");
}
