import fc from "fast-check";
import { expect, test } from "vitest";
import {
  belowLevel,
  DELIVERY_EXCHANGE,
  delayedRoute,
  LEVELS,
  levelMs,
  levelName,
  levelPattern,
  MAX_DELAY_MS,
  MAX_ROUTING_KEY_BYTES,
  queueBinding,
  queueTarget,
  routingKeyBeforeDelay,
  topicBinding,
  topicTarget,
  UNIT_MS,
} from "../../../adapters/rabbitmq/delay-levels.ts";

/** AMQP's topic patterns, as RabbitMQ matches them. */
function matches(pattern: string, key: string): boolean {
  const match = (patterns: string[], words: string[]): boolean => {
    const [first, ...rest] = patterns;
    if (first === undefined) return words.length === 0;
    if (first === "#") return match(rest, words) || (words.length > 0 && match(patterns, words.slice(1)));
    return words.length > 0 && (first === "*" || first === words[0]) && match(rest, words.slice(1));
  };
  return match(pattern.split("."), key === "" ? [] : key.split("."));
}

/** Follows a message through the levels; returns how long it waited and where it came out. */
function travel(start: { exchange: string; routingKey: string }): { waitedMs: number; queues: string[] } {
  let waitedMs = 0;
  const queues: string[] = [];
  let at = start.exchange;
  while (at !== DELIVERY_EXCHANGE) {
    const level = Array.from({ length: LEVELS }, (_, index) => index).find((index) => levelName(index) === at) ?? -1;
    const waits = matches(levelPattern(level, 1), start.routingKey);
    expect(matches(levelPattern(level, 0), start.routingKey)).toBe(!waits);
    if (waits) {
      waitedMs += levelMs(level);
      queues.push(at);
    }
    at = belowLevel(level);
  }
  return { waitedMs, queues };
}

const delay = fc.integer({ min: 1, max: MAX_DELAY_MS });
const longName = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,209}$/);
const topicName = fc.stringMatching(/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/);
const routingKey = fc
  .array(fc.stringMatching(/^[A-Za-z0-9_-]{1,8}$/), { maxLength: 11 })
  .map((words) => words.join("."));

test("a message waits at least its delay, and less than a unit longer", () => {
  fc.assert(
    fc.property(delay, (ms) => {
      const { waitedMs } = travel(delayedRoute(ms, queueTarget("orders")));
      expect(waitedMs).toBeGreaterThanOrEqual(ms);
      expect(waitedMs).toBeLessThan(ms + UNIT_MS);
    }),
  );
});

test("no message comes to one wait queue twice, which RabbitMQ would drop as a cycle", () => {
  fc.assert(
    fc.property(delay, (ms) => {
      const { queues } = travel(delayedRoute(ms, queueTarget("orders")));
      expect(new Set(queues).size).toBe(queues.length);
      expect(queues.length).toBeGreaterThan(0);
    }),
  );
});

test("it comes out at its own queue only", () => {
  fc.assert(
    fc.property(delay, longName, longName, (ms, name, other) => {
      const { routingKey: key } = delayedRoute(ms, queueTarget(name));
      expect(matches(queueBinding(name), key)).toBe(true);
      expect(matches(queueBinding(other), key)).toBe(name === other);
      expect(matches(topicBinding(name.slice(0, 100), "#"), key)).toBe(false);
      expect(routingKeyBeforeDelay(key)).toBeUndefined();
    }),
  );
});

test("an event comes out at the subscriptions whose filter its routing key matches", () => {
  fc.assert(
    fc.property(delay, topicName, topicName, routingKey, (ms, topic, other, given) => {
      const { routingKey: key } = delayedRoute(ms, topicTarget(topic, given));
      for (const filter of ["#", "*.#", "a.*", given || "#"]) {
        expect(matches(topicBinding(topic, filter), key)).toBe(matches(filter, given));
      }
      expect(matches(topicBinding(other, "#"), key)).toBe(topic === other);
      expect(matches(queueBinding(topic), key)).toBe(false);
      expect(routingKeyBeforeDelay(key) ?? "").toBe(given);
    }),
  );
});

test("no routing key is longer than AMQP carries", () => {
  fc.assert(
    fc.property(delay, longName, topicName, (ms, name, topic) => {
      const longest = "k".repeat(100);
      expect(delayedRoute(ms, queueTarget(name)).routingKey.length).toBeLessThanOrEqual(MAX_ROUTING_KEY_BYTES);
      const event = delayedRoute(ms, topicTarget(topic, longest));
      expect(event.routingKey.length).toBeLessThanOrEqual(MAX_ROUTING_KEY_BYTES);
      expect(topicBinding(topic, longest).length).toBeLessThanOrEqual(MAX_ROUTING_KEY_BYTES);
      expect(queueBinding(name).length).toBeLessThanOrEqual(MAX_ROUTING_KEY_BYTES);
    }),
  );
});

test("a longer delay than the levels hold is refused", () => {
  expect(travel(delayedRoute(MAX_DELAY_MS, queueTarget("orders"))).waitedMs).toBe(MAX_DELAY_MS);
  expect(() => delayedRoute(MAX_DELAY_MS + 1, queueTarget("orders"))).toThrow(RangeError);
});
