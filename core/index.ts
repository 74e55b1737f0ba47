export * from "./adapter.ts";
export * from "./address.ts";
export type { BatchEntry, Broker, BrokerStatus, Publisher, Receipt } from "./broker.ts";
export * from "./capabilities.ts";
export * from "./clock.ts";
export * from "./codec.ts";
export type { Consumer, ConsumerStatus } from "./consumer.ts";
export { createBroker } from "./create-broker.ts";
export * from "./delivery.ts";
export {
  type Destination,
  type DestinationOptions,
  type Queue,
  type QueueOptions,
  queue,
  type Subscription,
  type SubscriptionOptions,
  subscription,
  type Tombstones,
  type Topic,
  type TopicOptions,
  topic,
} from "./destination.ts";
export * from "./errors.ts";
export * from "./events.ts";
export * from "./json-codec.ts";
export * from "./options.ts";
export { deadLetter, type Outcome, postpone, retry } from "./outcome.ts";
export { HEADER, SYSTEM_PREFIX } from "./system-headers.ts";
