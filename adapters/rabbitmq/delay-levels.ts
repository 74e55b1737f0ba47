import { createHash } from "node:crypto";

/*
 * A delay is a number of units of 32 ms, written as bits. Each bit has a level: a topic exchange and a wait queue whose
 * messages expire after 32 ms times 2 to the level. A message enters at the level of its highest bit. A level's exchange
 * sends it to the level's wait queue if its bit is 1, and on to the next lower level's exchange if it is 0; what expires
 * in the wait queue goes to the next lower level too. Below level 0 the delivery exchange puts it where it belongs. So 26
 * wait queues serve every delay and every destination, and no message waits behind one with a longer delay.
 *
 * The routing key holds all bits, highest first, then the target: `0.0.….1.0.q.<queue>` or `….t.<topic>.<routing key>`.
 */

/** The number of levels, each with an exchange and a wait queue. */
export const LEVELS = 26;

/** Milliseconds of level 0: delays are rounded up to a multiple of this. */
export const UNIT_MS = 32;

/** The longest delay in one hop: 24.8 days. */
export const LONGEST_DELAY_MS = (2 ** LEVELS - 1) * UNIT_MS;

/** AMQP's limit on a routing key, in bytes. */
export const LONGEST_ROUTING_KEY = 255;

/** Where delayed messages come out. */
export const DELIVERY_EXCHANGE = "anybroker.delay.deliver";

/** Where those go whose destination was deleted while they waited, so that they neither vanish nor hold up others. */
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

/** What a level's exchange leads to: where what passes or expires there goes on. */
export function belowLevel(level: number): string {
  return level === 0 ? DELIVERY_EXCHANGE : levelName(level - 1);
}

/** The pattern of keys whose bit of this level is set, or not. */
export function levelPattern(level: number, bit: 0 | 1): string {
  return `${"*.".repeat(LEVELS - 1 - level)}${bit}.#`;
}

/** Where to publish a message with a delay, and under which routing key. `target` is from {@link queueTarget} or {@link topicTarget}. */
export function delayedRoute(delayMs: number, target: string): { exchange: string; routingKey: string } {
  const units = Math.max(1, Math.ceil(delayMs / UNIT_MS));
  const bits = units.toString(2);
  if (bits.length > LEVELS) throw new RangeError(`a delay of ${delayMs} ms is over ${LONGEST_DELAY_MS} ms`);
  const words = [...bits.padStart(LEVELS, "0")].join(".");
  return { exchange: levelName(bits.length - 1), routingKey: `${words}.${target}` };
}

/** The end of the routing key of what is delayed for a queue. */
export function queueTarget(queue: string): string {
  return `q.${word(queue)}`;
}

/** The end of the routing key of what is delayed for a topic. */
export function topicTarget(exchange: string, routingKey: string): string {
  return routingKey === "" ? `t.${word(exchange)}` : `t.${word(exchange)}.${routingKey}`;
}

/** The pattern by which a queue is bound to the delivery exchange for its own delayed messages. */
export function queueBinding(queue: string): string {
  return `${"*.".repeat(LEVELS)}${queueTarget(queue)}`;
}

/** The pattern by which a subscription's queue is bound to the delivery exchange for delayed events. */
export function topicBinding(exchange: string, filter: string): string {
  return `${"*.".repeat(LEVELS)}t.${word(exchange)}.${filter}`;
}

const BITS = new RegExp(`^(?:[01]\\.){${LEVELS}}([qt])\\.[^.]+(?:\\.(.*))?$`);

/** The routing key that an event had before it was delayed; undefined for what was delayed for a queue. */
export function routingKeyBeforeDelay(routingKey: string): string | undefined {
  const [, kind, rest] = BITS.exec(routingKey) ?? [];
  return kind === "t" ? rest : undefined;
}

const LONGEST_WORD = 150;

/** A name as one word: no name holds `/`. Names too long for a routing key stand as their SHA-256. */
function word(name: string): string {
  if (name.length > LONGEST_WORD) return `~${createHash("sha256").update(name).digest("hex")}`;
  return name.replaceAll(".", "/");
}
