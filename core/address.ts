/**
 * Where messages stand on a broker, in anybroker's own terms. Adapters map an address to a physical name; nothing else
 * in the library knows physical names.
 */
export type Address = WorkAddress | TopicAddress | DeadLettersAddress | QuarantineAddress;

/** A work queue. */
export interface QueueAddress {
  readonly kind: "queue";
  readonly name: string;
}

/** A topic. Messages sent to it are copied to every subscription; none stay on it. */
export interface TopicAddress {
  readonly kind: "topic";
  readonly name: string;
}

/** The queue of one named subscription of a topic. A retry copy is sent here, so that no other subscription sees it. */
export interface SubscriptionAddress {
  readonly kind: "subscription";
  readonly topic: string;
  readonly name: string;
}

/** What handlers consume from: a queue or a subscription. */
export type WorkAddress = QueueAddress | SubscriptionAddress;

/** Where the dead letters of a queue or subscription are kept. */
export interface DeadLettersAddress {
  readonly kind: "dead-letters";
  readonly of: WorkAddress;
}

/**
 * The quarantine log of a queue or subscription: records of who runs its messages that were redelivered again and again,
 * by which consumers learn whether one of them crashed while it ran such a message.
 */
export interface QuarantineAddress {
  readonly kind: "quarantine";
  readonly of: WorkAddress;
}

/** What a receiver can take messages from. */
export type Source = WorkAddress | DeadLettersAddress;

/** The queue that a delivery or an option names, or the subscription of a topic. */
export function workAddress(destination: string, subscription: string | undefined): WorkAddress {
  return subscription === undefined
    ? { kind: "queue", name: destination }
    : { kind: "subscription", topic: destination, name: subscription };
}

/**
 * The name of an address as people read it: `orders`, `order.placed`, `order.placed..billing`, `orders.dlq`,
 * `order.placed..billing.dlq`, `orders.quarantine`. No two addresses have one, but a queue and a topic: names have no two dots
 * in a row, and none of these endings.
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

/** Kind and name, as error messages say them: `queue "orders"`. */
export function describeAddress(address: Address): string {
  if (address.kind === "subscription") return `subscription "${address.name}" of topic "${address.topic}"`;
  if (address.kind === "dead-letters") return `dead letters of ${describeAddress(address.of)}`;
  if (address.kind === "quarantine") return `quarantine log of ${describeAddress(address.of)}`;
  return `${address.kind} "${address.name}"`;
}
