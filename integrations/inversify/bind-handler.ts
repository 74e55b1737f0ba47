import type { Bind } from "inversify";
import { MessagingError, type Queue, type Topic } from "../../core/index.ts";
import { type HandlerRegistration, handlerSource } from "./handler-registration.ts";
import { HANDLERS } from "./identifiers.ts";
import type { HandlerClass, QueueHandlerOptions, TopicHandlerOptions } from "./message-handler.ts";

/** What bindings are made with: a container, or what the function of a `ContainerModule` is given. */
export interface Binder {
  readonly bind: Bind;
}

/**
 * Has a class handle messages from the next `startMessaging` on: `bindHandler(binder, Billing)` for a class with
 * `@Handles`, `bindHandler(binder, orders, Billing)` or `bindHandler(binder, placed, "billing", Billing)` for one without.
 *
 * Where the container has no binding of the class, an object of it is made for each message, and released after it.
 * Where it has one, that says how the class is made and how long an object lives. A class whose `handle` takes another
 * body does not compile. What is wrong with the handlers of a container is said at start, all of it at once. Throws
 * `invalid` for arguments that are none of the above.
 */
export function bindHandler<Body>(binder: Binder, handler: HandlerClass<Body>): void;
export function bindHandler<Input, Output>(
  binder: Binder,
  queue: Queue<Input, Output>,
  handler: HandlerClass<NoInfer<Output>>,
  options?: QueueHandlerOptions<NoInfer<Output>>,
): void;
export function bindHandler<Input, Output>(
  binder: Binder,
  topic: Topic<Input, Output>,
  subscription: string,
  handler: HandlerClass<NoInfer<Output>>,
  options?: TopicHandlerOptions<NoInfer<Output>>,
): void;
export function bindHandler(binder: Binder, ...given: readonly unknown[]): void {
  const at = given.findIndex((value) => typeof value === "function");
  const handler = given[at] as HandlerClass<never> | undefined;
  if (handler === undefined) throw new MessagingError("invalid", "bindHandler takes the class of a handler");
  const rest = given.toSpliced(at, 1);
  const source =
    rest.length === 0 ? undefined : handlerSource(`bindHandler of ${handler.name}`, rest[0], rest.slice(1));
  const registration: HandlerRegistration = { handler, source };
  binder.bind(HANDLERS).toConstantValue(registration);
}
