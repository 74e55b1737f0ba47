export { type Binder, bindHandler } from "./bind-handler.ts";
export { Handles, type HandlesDecorator } from "./handles.ts";
export { BROKER, brokerOf, DELIVERY, MESSAGING, PUBLISHER, publisherOf } from "./identifiers.ts";
export type {
  HandlerClass,
  InContainer,
  MessageHandler,
  QueueHandlerOptions,
  TopicHandlerOptions,
} from "./message-handler.ts";
export { type Messaging, startMessaging } from "./messaging.ts";
export { messagingModule } from "./messaging-module.ts";
export type { MessagingOptions, MessagingSettings, NamedBrokers, OneBroker } from "./messaging-options.ts";
