import type { Bind, Container, ServiceIdentifier } from "inversify";
import type { Broker, BrokerStatus, Publisher } from "../../core/broker.ts";
import type { Delivery, Handler, Middleware } from "../../core/delivery.ts";
import type { Queue, Topic } from "../../core/destination.ts";
import { MessagingError } from "../../core/errors.ts";
import type { ConsumeOptions, StartOptions, StopOptions, SubscribeOptions } from "../../core/options.ts";
import { startFailed } from "../../core/start.ts";

/** The publisher of `messagingModule({ broker })`. The same object as {@link BROKER}. */
export const PUBLISHER: ServiceIdentifier<Publisher> = Symbol.for("anybroker.publisher");

/** The broker object of `messagingModule({ broker })`, for depths, rewinds and dead letters. */
export const BROKER: ServiceIdentifier<Broker> = Symbol.for("anybroker.broker");

/**
 * The delivery in progress. It is bound only in the container of its message: inject it into a handler, and into objects
 * that are made for each message. `start` refuses a singleton that injects it.
 */
export const DELIVERY: ServiceIdentifier<Delivery> = Symbol.for("anybroker.delivery");

/** The {@link Messaging} of a container, for the status of its brokers. `startMessaging` starts it. */
export const MESSAGING: ServiceIdentifier<Messaging> = Symbol.for("anybroker.messaging");

/** The registrations of `bindHandler`, one for each handler. */
export const HANDLERS: ServiceIdentifier<HandlerRegistration> = Symbol.for("anybroker.handlers");

/** The publisher of one broker of `messagingModule({ brokers })`: `@inject(publisherOf("audit"))`. */
export function publisherOf(name: string): ServiceIdentifier<Publisher> {
  return Symbol.for(`anybroker.publisher.${name}`);
}

/** One broker object of `messagingModule({ brokers })`; see {@link BROKER}. */
export function brokerOf(name: string): ServiceIdentifier<Broker> {
  return Symbol.for(`anybroker.broker.${name}`);
}

/** Starts and stops a container's brokers and handlers. Made by `messagingModule`, injected as `MESSAGING`. */
export interface Messaging {
  /**
   * Starts all brokers. Handlers get messages when every broker is started. Rejects with `start-failed` and all `problems`
   * at once, and leaves nothing open: it first checks the handlers, and then connects. A second call while started does
   * nothing, but rejects if handlers were bound since the start. After `stop` it starts again. Takes the options of
   * `Broker.start`.
   */
  start(options?: StartOptions): Promise<void>;
  /**
   * Stops consuming on all brokers, and waits for running handlers, which can still publish to any broker. Then waits for
   * confirms and closes. After the timeout, handlers are aborted and their messages are requeued. A second call waits for the
   * first, and a shorter `timeoutMs` of it counts for both. Throws `invalid` for wrong options.
   */
  stop(options?: StopOptions): Promise<void>;
  /** The status of each broker by name; the unnamed one is `default`. Throws `invalid` before `startMessaging`. */
  status(): Readonly<Record<string, BrokerStatus>>;
}

/** A {@link Messaging} that needs its container, which inversify does not pass. */
interface Attachable extends Messaging {
  attach(container: Container): void;
}

/**
 * Starts the messaging of a container that has loaded `messagingModule` and the modules with handlers; see
 * {@link Messaging.start}. Resolves with the object that `MESSAGING` injects. Rejects with `start-failed` if the container
 * itself, not only a parent, has no such module.
 */
export async function startMessaging(container: Container, options?: StartOptions): Promise<Messaging> {
  if (!container.isCurrentBound(MESSAGING)) {
    throw refused("the container has no messaging: load messagingModule({ broker }) into it");
  }
  const [messaging, second] = container.getAll(MESSAGING) as Attachable[];
  if (messaging === undefined || second !== undefined) {
    throw refused("the container has messaging twice: load one messagingModule with all brokers, as { brokers }");
  }
  messaging.attach(container);
  await messaging.start(options);
  return messaging;
}

function refused(what: string): MessagingError {
  return startFailed([new MessagingError("invalid", what)]);
}

/**
 * A class of handlers: `handle` is a handler for `Broker.consume`, with the same outcomes. The delivery's `native` has an
 * unknown type, because a container may have any broker.
 */
export interface MessageHandler<Body> {
  readonly handle: Handler<Body>;
}

/** The class of a {@link MessageHandler}. */
export type HandlerClass<Body> = new (...args: never[]) => MessageHandler<Body>;

/** The options of a handler besides those of the consumer. */
export interface InContainer<Body = unknown> {
  /** The name of its broker in `messagingModule({ brokers })`. Default: the unnamed one. */
  readonly broker?: string;
  /**
   * Middleware, or symbols of bound middleware, which are resolved at start. It runs inside the broker's own middleware and
   * before the handler is made.
   */
  readonly use?: readonly (Middleware<Body> | symbol)[];
}

/** The options of a queue's handler: those of `Broker.consume`, with a broker name and middleware symbols. */
export interface QueueHandlerOptions<Body = unknown> extends Omit<ConsumeOptions, "use">, InContainer<Body> {}

/** The options of a subscription's handler: those of `Broker.subscribe`, with a broker name and middleware symbols. */
export interface TopicHandlerOptions<Body = unknown> extends Omit<SubscribeOptions, "use">, InContainer<Body> {}

/** The property that {@link Handles} sets on a class. `Symbol.for` works across copies of the package. */
const HANDLES = Symbol.for("anybroker.handles");

/** A class decorator, for TypeScript's `experimentalDecorators` and for ECMAScript decorators. */
export type HandlesDecorator<Body> = (target: HandlerClass<Body>, context?: ClassDecoratorContext) => void;

/**
 * Declares what a class handles: `@Handles(orders)` for a queue, `@Handles(placed, "billing")` for a subscription. A class
 * may have several. Subclasses do not inherit it. Nothing is consumed before `bindHandler`. A class whose `handle` takes
 * another body does not compile. Throws `invalid` on anything else than a class.
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
  // Both kinds of decorators pass the class first.
  return (target, context) => {
    if (typeof target !== "function" || (context !== undefined && context.kind !== "class")) {
      throw new MessagingError("invalid", "@Handles is a class decorator; the method of the class is called handle");
    }
    const value = [...handledBy(target), source];
    Object.defineProperty(target, HANDLES, { value, configurable: true });
  };
}

/** The sources that a class itself, not its bases, is decorated with. */
export function handledBy(handler: HandlerClass<never>): readonly HandlerSource[] {
  return Object.hasOwn(handler, HANDLES)
    ? ((handler as { readonly [HANDLES]?: readonly HandlerSource[] })[HANDLES] ?? [])
    : [];
}

/** What a handler consumes, with its options. */
export interface HandlerSource {
  readonly destination: Queue<never, unknown> | Topic<never, unknown>;
  /** Of a topic. */
  readonly subscription: string | undefined;
  readonly options: TopicHandlerOptions;
}

/** What `bindHandler` binds for `startMessaging`. */
export interface HandlerRegistration {
  readonly handler: HandlerClass<never>;
  /** Undefined if the class has decorators instead. */
  readonly source: HandlerSource | undefined;
}

/** Parses the arguments for a queue with options, or a topic with a subscription and options. Throws `invalid`. */
function handlerSource(where: string, destination: unknown, rest: readonly unknown[]): HandlerSource {
  const { kind } = (destination ?? {}) as { readonly kind?: unknown };
  const ofTopic = kind === "topic";
  const [subscription, options = {}] = ofTopic ? rest : [undefined, ...rest];
  const complete = ofTopic ? typeof subscription === "string" : kind === "queue";
  if (!complete || typeof options !== "object" || options === null) {
    throw new MessagingError(
      "invalid",
      `${where} takes a queue, or a topic and the name of a subscription, and then options`,
    );
  }
  return { destination: destination as HandlerSource["destination"], subscription: subscription as string, options };
}

/** A container, or the argument of a `ContainerModule`'s function. */
export interface Binder {
  readonly bind: Bind;
}

/**
 * Binds a handler class, which gets messages from the next `startMessaging` on: `bindHandler(binder, Billing)` for a class
 * with `@Handles`; `bindHandler(binder, orders, Billing)` or `bindHandler(binder, placed, "billing", Billing)` without.
 *
 * If the class is not bound in the container, an object is made for each message and released after it. If it is bound, the
 * binding decides. A class whose `handle` takes another body does not compile. Problems with handlers are reported at start,
 * all at once. Throws `invalid` for other arguments.
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
