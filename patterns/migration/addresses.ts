import {
  type Destination,
  MessagingError,
  type QueueAddress,
  type SubscriptionAddress,
  type TopicAddress,
} from "../../core/index.ts";

/** Where a destination's messages stand or go. Throws `invalid` for what is none. */
export function addressOf(destination: Destination): QueueAddress | TopicAddress | SubscriptionAddress {
  switch (destination?.kind) {
    case "queue":
      return { kind: "queue", name: destination.name };
    case "topic":
      return { kind: "topic", name: destination.name };
    case "subscription":
      return { kind: "subscription", topic: destination.topic.name, name: destination.name };
    default:
      throw new MessagingError("invalid", "a destination is made by queue(), topic() or subscription()");
  }
}

/** Whether a destination keeps its keys in order: a subscription, as its topic does. */
export function isOrdered(destination: Destination): boolean {
  const of = destination.kind === "subscription" ? destination.topic : destination;
  return of.options.ordered === true;
}
