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
import { MAX_TTL_MS } from "./message-codec.ts";
import { deadLettersOf, exchangeName, quarantineOf, queueName } from "./names.ts";
import type { Settings } from "./options.ts";
import type { ServerVersion } from "./server-version.ts";

export interface ExchangePlan {
  readonly name: string;
  readonly type: "topic" | "fanout";
  readonly alternate?: string;
}

/** The purpose of a queue. */
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

/** All resources that a topology needs on RabbitMQ, and the problems of parts that are not possible. */
export interface TopologyPlan {
  readonly exchanges: readonly ExchangePlan[];
  readonly queues: readonly QueuePlan[];
  readonly bindings: readonly BindingPlan[];
  readonly problems: readonly MessagingError[];
}

/**
 * The delivery limit of an ordered queue, as a multiple of other queues'. Its single consumer holds hundreds of
 * messages that no handler has started, and each lost connection counts for all of them.
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
    const ofWork = queuesOf(queue, version, settings);
    queues.push(...ofWork);
    for (const { name, role } of ofWork) {
      // Quarantine records are never delayed.
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
      `${where} needs ${priorities} priorities; quorum queues have them from RabbitMQ 4.3 on, and this is ${version.text}; ` +
        "upgrade the server, or use one queue per priority",
    );
  }
  if (ttlMs !== undefined && ttlMs > MAX_TTL_MS) {
    return new MessagingError(
      "unsupported",
      `${where} has a time to live of ${ttlMs} ms, above RabbitMQ's limit of ${MAX_TTL_MS} ms; set a shorter one or none`,
    );
  }
  return undefined;
}

/** A work queue with its dead letters and its quarantine log. */
function queuesOf(
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
      // One reader at a time, which gets everything that an earlier one held.
      arguments: {
        ...durableArguments(version),
        "x-single-active-consumer": true,
        "x-message-ttl": QUARANTINE_KEPT_MS,
      },
    },
    { name: deadLetters, role: "dead-letters", isOrdered: false, arguments: durableArguments(version) },
  ];
}

/** At least once: RabbitMQ keeps the message until its copy is confirmed. This needs the overflow `reject-publish`. */
function deadLetterArguments(exchange: string, routingKey?: string): Record<string, string> {
  return {
    "x-dead-letter-exchange": exchange,
    ...(routingKey === undefined ? {} : { "x-dead-letter-routing-key": routingKey }),
    "x-dead-letter-strategy": "at-least-once",
    "x-overflow": "reject-publish",
  };
}

/**
 * The arguments of a queue that loses no messages by itself: neither after any number of reads (a delivery and a
 * requeue), nor by a length limit of a policy.
 */
function durableArguments(version: ServerVersion): Record<string, string | number> {
  return {
    "x-queue-type": "quorum",
    "x-overflow": "reject-publish",
    // Before 4.0 there is no limit by default, and -1 is refused.
    ...(version.atLeast(4, 0) ? { "x-delivery-limit": -1 } : {}),
  };
}

/** The delay levels, once for each virtual host. */
function delayPlan(version: ServerVersion): Omit<TopologyPlan, "problems"> {
  const exchanges: ExchangePlan[] = [
    { name: UNDELIVERED_EXCHANGE, type: "fanout" },
    { name: DELIVERY_EXCHANGE, type: "topic", alternate: UNDELIVERED_EXCHANGE },
  ];
  const queues: QueuePlan[] = [
    { name: UNDELIVERED_QUEUE, role: "undelivered", isOrdered: false, arguments: durableArguments(version) },
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
