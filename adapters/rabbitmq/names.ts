import { type Address, addressName, describeAddress, type TopicAddress, type WorkAddress } from "../../core/address.ts";
import { MessagingError } from "../../core/errors.ts";

/** What the delay infrastructure is called; no destination may be. */
export const OWN_PREFIX = "anybroker.";
/** RabbitMQ keeps these names for itself. */
const RESERVED_PREFIXES = [OWN_PREFIX, "amq."];

/**
 * The name of the RabbitMQ queue that stands for an address: `orders`, `order.placed..billing` (subscription `billing` of
 * topic `order.placed`), and either with `.dlq` or `.quarantine` after it.
 */
export function queueName(address: Exclude<Address, TopicAddress>): string {
  return addressName(address);
}

/** The name of the RabbitMQ exchange that stands for a topic: the topic's own. */
export function exchangeName(topic: string): string {
  return topic;
}

export function deadLettersOf(work: WorkAddress): string {
  return queueName({ kind: "dead-letters", of: work });
}

export function quarantineOf(work: WorkAddress): string {
  return queueName({ kind: "quarantine", of: work });
}

/**
 * The physical name with its namespace, as in `queue orders` or `exchange order.placed`: an exchange and a queue of one
 * name do not collide. Throws `invalid` for a name that RabbitMQ or the delay infrastructure keeps for itself.
 */
export function physicalName(address: Address): string {
  const name = addressName(address);
  const reserved = RESERVED_PREFIXES.find((prefix) => name.startsWith(prefix));
  if (reserved !== undefined) {
    throw new MessagingError(
      "invalid",
      `${describeAddress(address)} cannot be on RabbitMQ: names that begin with "${reserved}" are reserved; choose another name`,
    );
  }
  return address.kind === "topic" ? `exchange ${name}` : `queue ${name}`;
}

/** RabbitMQ's own default. */
export const DEFAULT_CONSUMER_TIMEOUT_MS = 30 * 60 * 1000;
