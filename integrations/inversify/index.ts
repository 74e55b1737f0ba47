export type {
  HandlerClass,
  InContainer,
  MessageHandler,
  QueueHandlerOptions,
  TopicHandlerOptions,
} from "./identifiers.ts";
export {
  type Binder,
  BROKER,
  bindHandler,
  brokerOf,
  DELIVERY,
  Handles,
  type HandlesDecorator,
  MESSAGING,
  type Messaging,
  PUBLISHER,
  publisherOf,
  startMessaging,
} from "./identifiers.ts";
export type { MessagingOptions, MessagingSettings, NamedBrokers, OneBroker } from "./messaging.ts";
export { messagingModule } from "./messaging.ts";
