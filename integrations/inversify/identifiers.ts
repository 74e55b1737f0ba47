import type { ServiceIdentifier } from "inversify";
import type { Broker, Delivery, Publisher } from "../../core/index.ts";
import type { HandlerRegistration } from "./handler-registration.ts";
import type { Messaging } from "./messaging.ts";

/** What services inject to send and to publish: of `messagingModule({ broker })`. The same object as {@link BROKER}. */
export const PUBLISHER: ServiceIdentifier<Publisher> = Symbol.for("anybroker.publisher");

/** The broker object of `messagingModule({ broker })`, for what asks for depths, rewinds or works on dead letters. */
export const BROKER: ServiceIdentifier<Broker> = Symbol.for("anybroker.broker");

/**
 * The delivery of the message that is being handled. It is bound in the container of that one message only: inject it into
 * a handler, and into what is made anew for each message. A singleton that takes it is refused at start.
 */
export const DELIVERY: ServiceIdentifier<Delivery> = Symbol.for("anybroker.delivery");

/** The owner of the brokers' lives, for what shows their status. `startMessaging` starts it. */
export const MESSAGING: ServiceIdentifier<Messaging> = Symbol.for("anybroker.messaging");

/** What `bindHandler` binds, once for each handler. */
export const HANDLERS: ServiceIdentifier<HandlerRegistration> = Symbol.for("anybroker.handlers");

/** The publisher of one broker of `messagingModule({ brokers })`: `@inject(publisherOf("audit"))`. */
export function publisherOf(name: string): ServiceIdentifier<Publisher> {
  return Symbol.for(`anybroker.publisher.${name}`);
}

/** One broker object of `messagingModule({ brokers })`; see {@link BROKER}. */
export function brokerOf(name: string): ServiceIdentifier<Broker> {
  return Symbol.for(`anybroker.broker.${name}`);
}
