/** `anybroker`: what applications use. Adapter authors also use `anybroker/adapter`. */
export type { Adapter } from "./adapter.ts";
export type { BatchEntry, Broker, BrokerStatus, Publisher, Receipt } from "./broker.ts";
export { bytesCodec, type Codec } from "./codec.ts";
export type { Consumer, ConsumerStatus } from "./consumer.ts";
export { createBroker } from "./create-broker.ts";
export type { Delivery, Handler, MessageHeaders, Middleware } from "./delivery.ts";
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
export { jsonCodec } from "./json-codec.ts";
export type {
  BrokerOptions,
  ConsumeOptions,
  PublishOptions,
  RetryPolicy,
  SendOptions,
  SubscribeOptions,
} from "./options.ts";
export { deadLetter, type Outcome, postpone, retry } from "./outcome.ts";
