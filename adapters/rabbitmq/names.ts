import { type Address, addressName, describeAddress, type TopicAddress, type WorkAddress } from "../../core/address.ts";
import { MessagingError } from "../../core/errors.ts";

/** The prefix of the delay resources. No destination may have it. */
export const OWN_PREFIX = "anybroker.";
/** Reserved by RabbitMQ or anybroker. */
const RESERVED_PREFIXES = [OWN_PREFIX, "amq."];

/**
 * The queue name of an address: `orders`, or `order.placed..billing` for subscription `billing` of topic
 * `order.placed`. Dead letters and quarantine have `.dlq` and `.quarantine` after it.
 */
export function queueName(address: Exclude<Address, TopicAddress>): string {
  return addressName(address);
}

/** The name of a topic's exchange: the topic's name. */
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
 * The physical name with its namespace, such as `queue orders` or `exchange order.placed`: an exchange and a queue may
 * have the same name. Throws `invalid` for a reserved name.
 */
export function physicalName(address: Address): string {
  const name = addressName(address);
  const reserved = RESERVED_PREFIXES.find((prefix) => name.startsWith(prefix));
  if (reserved !== undefined) {
    throw new MessagingError(
      "invalid",
      `${describeAddress(address)} is not possible on RabbitMQ: names that begin with "${reserved}" are reserved; choose another name`,
    );
  }
  return address.kind === "topic" ? `exchange ${name}` : `queue ${name}`;
}

/** RabbitMQ's default. */
export const DEFAULT_CONSUMER_TIMEOUT_MS = 30 * 60 * 1000;
