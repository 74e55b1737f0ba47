import { MessagingError, type Queue, type Topic } from "../../core/index.ts";
import { type HandlerSource, handlerSource } from "./handler-registration.ts";
import type { HandlerClass, QueueHandlerOptions, TopicHandlerOptions } from "./message-handler.ts";

/** Where {@link Handles} leaves its note on a class. By `Symbol.for`, so that two copies of the package agree. */
const HANDLES = Symbol.for("anybroker.handles");

/** Stands on a class whose `handle` takes this body, by TypeScript's `experimentalDecorators` or as ECMAScript's own. */
export type HandlesDecorator<Body> = (target: HandlerClass<Body>, context?: ClassDecoratorContext) => void;

/**
 * Says what a class handles: `@Handles(orders)` the messages of a queue, `@Handles(placed, "billing")` the events of a
 * subscription. A class may stand under several, for destinations of one body. It says so for itself alone, not for the
 * classes that extend it, and nothing is consumed before `bindHandler` has put it in a container. A class whose `handle`
 * takes another body does not compile. Throws `invalid` where it stands on something else than a class.
 */
export function Handles<Input, Output>(
  queue: Queue<Input, Output>,
  options?: QueueHandlerOptions<NoInfer<Output>>,
): HandlesDecorator<Output>;
export function Handles<Input, Output>(
  topic: Topic<Input, Output>,
  subscription: string,
  options?: TopicHandlerOptions<NoInfer<Output>>,
): HandlesDecorator<Output>;
export function Handles(
  destination: Queue<never, unknown> | Topic<never, unknown>,
  ...rest: readonly unknown[]
): HandlesDecorator<never> {
  const source = handlerSource("@Handles", destination, rest);
  // Both kinds of decorators hand over the class first; what differs is what follows it.
  return (target, context) => {
    if (typeof target !== "function" || (context !== undefined && context.kind !== "class")) {
      throw new MessagingError("invalid", "@Handles stands on a class; its method is called handle");
    }
    const value = [...handledBy(target), source];
    Object.defineProperty(target, HANDLES, { value, configurable: true });
  };
}

/** What a class is decorated with itself, its bases left aside. */
export function handledBy(handler: HandlerClass<never>): readonly HandlerSource[] {
  return Object.hasOwn(handler, HANDLES)
    ? ((handler as { readonly [HANDLES]?: readonly HandlerSource[] })[HANDLES] ?? [])
    : [];
}
