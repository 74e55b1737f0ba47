import type { ConsumeOptions, Handler, Middleware, SubscribeOptions } from "../../core/index.ts";

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
