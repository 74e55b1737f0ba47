export * from "./adapter.ts";
export * from "./address.ts";
export * from "./capabilities.ts";
export * from "./clock.ts";
export * from "./codec.ts";
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
  type Topic,
  type TopicOptions,
  topic,
} from "./destination.ts";
export * from "./errors.ts";
export * from "./json-codec.ts";
export { deadLetter, type Outcome, retry } from "./outcome.ts";
