/** `anybroker`: what applications use. Adapter authors also use `anybroker/adapter`. */
export type { Adapter } from "./adapter.ts";
export type { BatchEntry, Broker, BrokerStatus, Consumer, ConsumerStatus, Publisher, Receipt } from "./broker.ts";
export { bytesCodec, type Codec, jsonCodec } from "./codec.ts";
export { createBroker } from "./create-broker.ts";
export {
  type Delivery,
  deadLetter,
  type Handler,
  type MessageHeaders,
  type Middleware,
  type Outcome,
  postpone,
  retry,
} from "./delivery.ts";
export {
  type Destination,
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
export { isMessagingError, MessagingError, type MessagingErrorCode } from "./errors.ts";
export type { BrokerEvent } from "./events.ts";
export type {
  BrokerOptions,
  ConsumeOptions,
  PublishOptions,
  SendOptions,
  SubscribeOptions,
} from "./options.ts";
export type { RetryPolicy } from "./retry-policy.ts";
