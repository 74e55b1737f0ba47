/** A place for messages on a broker, in anybroker's terms. Only adapters map addresses to physical names. */
export type Address = WorkAddress | TopicAddress | DeadLettersAddress | QuarantineAddress;

/** A work queue. */
export interface QueueAddress {
  readonly kind: "queue";
  readonly name: string;
}

/** A topic. It copies each message to every subscription and stores none. */
export interface TopicAddress {
  readonly kind: "topic";
  readonly name: string;
}

/** The queue of one subscription of a topic. Retry copies go here, so that no other subscription gets them. */
export interface SubscriptionAddress {
  readonly kind: "subscription";
  readonly topic: string;
  readonly name: string;
}

/** A source for handlers: a queue or a subscription. */
export type WorkAddress = QueueAddress | SubscriptionAddress;

/** The dead letters of a queue or subscription. */
export interface DeadLettersAddress {
  readonly kind: "dead-letters";
  readonly of: WorkAddress;
}

/**
 * The quarantine log of a queue or subscription. Consumers record there that they run an often redelivered message, and
 * learn from it whether one of them crashed at that.
 */
export interface QuarantineAddress {
  readonly kind: "quarantine";
  readonly of: WorkAddress;
}

/** A source for receivers. */
export type Source = WorkAddress | DeadLettersAddress;

/** The address of a queue, or of a subscription of the topic if one is named. */
export function workAddress(destination: string, subscription: string | undefined): WorkAddress {
  return subscription === undefined
    ? { kind: "queue", name: destination }
    : { kind: "subscription", topic: destination, name: subscription };
}

/**
 * The name of an address for people: `orders`, `order.placed`, `order.placed..billing`, `orders.dlq`,
 * `order.placed..billing.dlq`, `orders.quarantine`. Only a queue and a topic can share a name: `checkName` refuses
 * two dots in a row and these endings.
 */
export function addressName(address: Address): string {
  switch (address.kind) {
    case "queue":
    case "topic":
      return address.name;
    case "subscription":
      return `${address.topic}..${address.name}`;
    case "dead-letters":
      return `${addressName(address.of)}.dlq`;
    case "quarantine":
      return `${addressName(address.of)}.quarantine`;
  }
}

/** Kind and name for error messages: `queue "orders"`. */
export function describeAddress(address: Address): string {
  if (address.kind === "subscription") return `subscription "${address.name}" of topic "${address.topic}"`;
  if (address.kind === "dead-letters") return `dead letters of ${describeAddress(address.of)}`;
  if (address.kind === "quarantine") return `quarantine log of ${describeAddress(address.of)}`;
  return `${address.kind} "${address.name}"`;
}
