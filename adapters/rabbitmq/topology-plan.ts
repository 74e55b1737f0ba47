import { QUARANTINE_KEPT_MS, type Topology } from "../../core/adapter.ts";
import { describeAddress, type WorkAddress } from "../../core/address.ts";
import { MessagingError } from "../../core/errors.ts";
import {
  belowLevel,
  DELIVERY_EXCHANGE,
  LEVELS,
  levelMs,
  levelName,
  levelPattern,
  queueBinding,
  topicBinding,
  UNDELIVERED_EXCHANGE,
  UNDELIVERED_QUEUE,
} from "./delay-levels.ts";
import { LONGEST_TTL_MS } from "./message-codec.ts";
import { deadLettersOf, exchangeName, quarantineOf, queueName } from "./names.ts";
import type { Settings } from "./options.ts";
import type { ServerVersion } from "./server-version.ts";

export interface ExchangePlan {
  readonly name: string;
  readonly type: "topic" | "fanout";
  readonly alternate?: string;
}

/** What a queue is for. */
type QueueRole = "work" | "quarantine" | "dead-letters" | "wait" | "undelivered";

export interface QueuePlan {
  readonly name: string;
  readonly role: QueueRole;
  readonly isOrdered: boolean;
  readonly arguments: Readonly<Record<string, string | number | boolean>>;
}

export interface BindingPlan {
  readonly from: string;
  readonly to: string;
  readonly toKind: "queue" | "exchange";
  readonly pattern: string;
}

/** Everything that must stand on the broker, in RabbitMQ's terms, and what of the topology cannot be. */
export interface TopologyPlan {
  readonly exchanges: readonly ExchangePlan[];
  readonly queues: readonly QueuePlan[];
  readonly bindings: readonly BindingPlan[];
  readonly problems: readonly MessagingError[];
}

/**
 * How many times the limit of other queues an ordered one has. A single consumer holds hundreds of messages that it has not
 * begun, so that a restart of the server, or a connection that is cut again and again, counts for all of them.
 */
const ORDERED_DELIVERIES = 10;

interface WorkQueue {
  readonly address: WorkAddress;
  readonly ordered: boolean;
  readonly priorities: number;
  readonly ttlMs: number | undefined;
}

export function topologyPlan(
  topology: Topology,
  version: ServerVersion,
  settings: Pick<Settings, "deliveryLimit" | "queueArguments">,
): TopologyPlan {
  const exchanges = new Map<string, ExchangePlan>();
  const bindings: BindingPlan[] = [];
  const problems: MessagingError[] = [];
  const work: WorkQueue[] = [];
  for (const { address, ordered, priorities, ttlMs } of topology.queues) {
    work.push({ address, ordered, priorities, ttlMs });
  }
  for (const { address } of topology.topics) {
    exchanges.set(address.name, { name: exchangeName(address.name), type: "topic" });
  }
  for (const { address, ordered, ttlMs, filter = "#" } of topology.subscriptions) {
    const exchange = exchangeName(address.topic);
    const to = queueName(address);
    exchanges.set(address.topic, { name: exchange, type: "topic" });
    work.push({ address, ordered, priorities: 1, ttlMs });
    bindings.push({ from: exchange, to, toKind: "queue", pattern: filter });
    bindings.push({ from: DELIVERY_EXCHANGE, to, toKind: "queue", pattern: topicBinding(exchange, filter) });
  }
  const queues: QueuePlan[] = [];
  for (const queue of work) {
    const problem = problemOf(queue, version);
    if (problem !== undefined) {
      problems.push(problem);
      continue;
    }
    const family = familyOf(queue, version, settings);
    queues.push(...family);
    for (const { name, role } of family) {
      // No record is delayed.
      if (role === "quarantine") continue;
      bindings.push({ from: DELIVERY_EXCHANGE, to: name, toKind: "queue", pattern: queueBinding(name) });
    }
  }
  const delays = delayPlan(version);
  return {
    exchanges: [...delays.exchanges, ...exchanges.values()],
    queues: [...delays.queues, ...queues],
    bindings: [...delays.bindings, ...bindings],
    problems,
  };
}

/** Priorities need no argument: from 4.3 on every quorum queue has 0 to 31, and refuses `x-max-priority`. */
function problemOf({ address, priorities, ttlMs }: WorkQueue, version: ServerVersion): MessagingError | undefined {
  const where = describeAddress(address);
  if (priorities > 1 && !version.atLeast(4, 3)) {
    return new MessagingError(
      "unsupported",
      `${where} asks for ${priorities} priorities, which quorum queues have from RabbitMQ 4.3, and this is ${version.text}; ` +
        "upgrade the server, or use a queue per priority",
    );
  }
  if (ttlMs !== undefined && ttlMs > LONGEST_TTL_MS) {
    return new MessagingError(
      "unsupported",
      `${where} asks for a time to live of ${ttlMs} ms, over RabbitMQ's ${LONGEST_TTL_MS} ms; give a shorter one or none`,
    );
  }
  return undefined;
}

/** A work queue with its dead letters and its quarantine log. */
function familyOf(
  { address, ordered, ttlMs }: WorkQueue,
  version: ServerVersion,
  { deliveryLimit, queueArguments }: Pick<Settings, "deliveryLimit" | "queueArguments">,
): QueuePlan[] {
  const deadLetters = deadLettersOf(address);
  return [
    {
      name: queueName(address),
      role: "work",
      isOrdered: ordered,
      arguments: {
        ...queueArguments,
        "x-queue-type": "quorum",
        ...deadLetterArguments("", deadLetters),
        "x-delivery-limit": ordered ? deliveryLimit * ORDERED_DELIVERIES : deliveryLimit,
        ...(ordered ? { "x-single-active-consumer": true } : {}),
        ...(ttlMs === undefined ? {} : { "x-message-ttl": ttlMs }),
      },
    },
    {
      name: quarantineOf(address),
      role: "quarantine",
      isOrdered: false,
      // A single reader at a time, to whom everything comes back that an earlier one held.
      arguments: {
        ...lasting(version),
        "x-single-active-consumer": true,
        "x-message-ttl": QUARANTINE_KEPT_MS,
      },
    },
    { name: deadLetters, role: "dead-letters", isOrdered: false, arguments: lasting(version) },
  ];
}

/** At least once: RabbitMQ keeps the message until its copy is confirmed, which wants `reject-publish` as overflow. */
function deadLetterArguments(exchange: string, routingKey?: string): Record<string, string> {
  return {
    "x-dead-letter-exchange": exchange,
    ...(routingKey === undefined ? {} : { "x-dead-letter-routing-key": routingKey }),
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
  };
}

/**
 * A queue from which nothing goes by itself: looking at a message (a delivery and a requeue) any number of times must not
 * drop it, and a limit that a policy sets must not drop the oldest for the newest.
 */
function lasting(version: ServerVersion): Record<string, string | number> {
  return {
    "x-queue-type": "quorum",
    "x-overflow": "reject-publish",
    // Before 4.0 there is no limit unless one is given, and -1 is refused.
    ...(version.atLeast(4, 0) ? { "x-delivery-limit": -1 } : {}),
  };
}

/** The levels of the delays, once per virtual host. */
function delayPlan(version: ServerVersion): Omit<TopologyPlan, "problems"> {
  const exchanges: ExchangePlan[] = [
    { name: UNDELIVERED_EXCHANGE, type: "fanout" },
    { name: DELIVERY_EXCHANGE, type: "topic", alternate: UNDELIVERED_EXCHANGE },
  ];
  const queues: QueuePlan[] = [
    { name: UNDELIVERED_QUEUE, role: "undelivered", isOrdered: false, arguments: lasting(version) },
  ];
  const bindings: BindingPlan[] = [{ from: UNDELIVERED_EXCHANGE, to: UNDELIVERED_QUEUE, toKind: "queue", pattern: "" }];
  for (let level = 0; level < LEVELS; level++) {
    const name = levelName(level);
    const below = belowLevel(level);
    exchanges.push({ name, type: "topic" });
    queues.push({
      name,
      role: "wait",
      isOrdered: false,
      arguments: {
        "x-queue-type": "quorum",
        ...deadLetterArguments(below),
        "x-message-ttl": levelMs(level),
        ...(version.atLeast(4, 0) ? { "x-delivery-limit": -1 } : {}),
      },
    });
    bindings.push({ from: name, to: name, toKind: "queue", pattern: levelPattern(level, 1) });
    bindings.push({ from: name, to: below, toKind: "exchange", pattern: levelPattern(level, 0) });
  }
  return { exchanges, queues, bindings };
}
