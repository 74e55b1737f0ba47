import type { Bind, Container, ServiceIdentifier } from "inversify";
import type { Broker, BrokerStatus, Publisher } from "../../core/broker.ts";
import type { Delivery, Handler, Middleware } from "../../core/delivery.ts";
import type { Queue, Topic } from "../../core/destination.ts";
import { MessagingError } from "../../core/errors.ts";
import type { ConsumeOptions, StartOptions, StopOptions, SubscribeOptions } from "../../core/options.ts";
import { startFailed } from "../../core/start.ts";

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

/** Owns the lives of a container's brokers and handlers. Made by `messagingModule`, injected as `MESSAGING`. */
export interface Messaging {
  /**
   * Starts all brokers; handlers are given messages when every one of them stands. Rejects with `start-failed`, whose
   * `problems` lists everything found at once, and leaves nothing open: first what is wrong with the handlers, before
   * anything is connected, then what is wrong with the brokers. A second call while started does nothing, but for a
   * rejection if handlers were bound meanwhile, which would get no message; after `stop` it starts again. The options are
   * those of `Broker.start`.
   */
  start(options?: StartOptions): Promise<void>;
  /**
   * Stops taking messages on all brokers, lets running handlers finish and settles their messages, while all of them can
   * still publish to any broker; then waits for the confirms and closes. A second call waits for the first. Handlers that
   * go on past the deadline are aborted, and their messages given back. Throws `invalid` for wrong options.
   */
  stop(options?: StopOptions): Promise<void>;
  /** Each broker's, by name; the one without a name is `default`. Throws `invalid` before `startMessaging`. */
  status(): Readonly<Record<string, BrokerStatus>>;
}

/** A {@link Messaging} that is told its container, since inversify does not tell it. */
interface Attachable extends Messaging {
  attach(container: Container): void;
}

/**
 * Starts the messaging of a container that has loaded `messagingModule` and the modules with handlers; see
 * {@link Messaging.start}. Resolves with what `MESSAGING` injects. Rejects with `start-failed` also where the module is
 * missing: it has to be in this container itself, and not only in a parent.
 */
export async function startMessaging(container: Container, options?: StartOptions): Promise<Messaging> {
  if (!container.isCurrentBound(MESSAGING)) {
    throw refused("the container has no messaging: load messagingModule({ broker }) into it");
  }
  const [messaging, second] = container.getAll(MESSAGING) as Attachable[];
  if (messaging === undefined || second !== undefined) {
    throw refused("the container has messaging twice: load one messagingModule, with all { brokers } by their names");
  }
  messaging.attach(container);
  await messaging.start(options);
  return messaging;
}

function refused(what: string): MessagingError {
  return startFailed([new MessagingError("invalid", what)]);
}

/**
 * A class whose objects handle messages: `handle` is a handler as `Broker.consume` takes it, with the same outcomes. The
 * type of its delivery's `native` is unknown, because a container may hold any broker.
 */
export interface MessageHandler<Body> {
  readonly handle: Handler<Body>;
}

/** The class of a {@link MessageHandler}, whatever its constructor takes. */
export type HandlerClass<Body> = new (...args: never[]) => MessageHandler<Body>;

/** What a handler may say for itself besides the options of the consumer. */
export interface InContainer<Body = unknown> {
  /** The name of its broker in `messagingModule({ brokers })`. Default: the one given as `broker`. */
  readonly broker?: string;
  /**
   * Wraps the handler, inside the broker's own middleware: middleware, or the symbol it is bound by, which is resolved once
   * at start. It runs before the handler is made, so what it holds back costs no construction.
   */
  readonly use?: readonly (Middleware<Body> | symbol)[];
}

/** The options of a handler of a queue: those of `Broker.consume`, with its broker by name and middleware by symbol. */
export interface QueueHandlerOptions<Body = unknown> extends Omit<ConsumeOptions, "use">, InContainer<Body> {}

/** The options of a handler of a subscription: those of `Broker.subscribe`, likewise. */
export interface TopicHandlerOptions<Body = unknown> extends Omit<SubscribeOptions, "use">, InContainer<Body> {}

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

/** Where a handler takes its messages from, and how. */
export interface HandlerSource {
  readonly destination: Queue<never, unknown> | Topic<never, unknown>;
  /** Of a topic. */
  readonly subscription: string | undefined;
  readonly options: TopicHandlerOptions;
}

/** What `bindHandler` leaves in a container for `startMessaging` to find. */
export interface HandlerRegistration {
  readonly handler: HandlerClass<never>;
  /** Undefined where the class says it by its decorators. */
  readonly source: HandlerSource | undefined;
}

/**
 * What stands between the destination and the class, or in the decorator: a queue with options, or a topic with a
 * subscription and options. Throws `invalid` for anything else.
 */
function handlerSource(where: string, destination: unknown, rest: readonly unknown[]): HandlerSource {
  const { kind } = (destination ?? {}) as { readonly kind?: unknown };
  const ofTopic = kind === "topic";
  const [subscription, options = {}] = ofTopic ? rest : [undefined, ...rest];
  const complete = ofTopic ? typeof subscription === "string" : kind === "queue";
  if (!complete || typeof options !== "object" || options === null) {
    throw new MessagingError(
      "invalid",
      `${where} takes a queue, or a topic and the name of a subscription, then options`,
    );
  }
  return { destination: destination as HandlerSource["destination"], subscription: subscription as string, options };
}

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
