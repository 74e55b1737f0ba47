export { type Binder, bindHandler } from "./bind-handler.ts";
export type { HandlerRegistration, HandlerSource } from "./handler-registration.ts";
export { Handles, type HandlesDecorator } from "./handles.ts";
export { BROKER, brokerOf, DELIVERY, HANDLERS, MESSAGING, PUBLISHER, publisherOf } from "./identifiers.ts";
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
