import * as timers from "node:timers";
import { Container, type ContainerModule, type Newable } from "inversify";
import { describeAddress, type WorkAddress } from "../../core/address.ts";
import type { Broker, Consumer } from "../../core/broker.ts";
import { type BrokerInternals, INTERNALS } from "../../core/broker-internals.ts";
import { settleWithin } from "../../core/clock.ts";
import type { Delivery, Handler, HandlerResult, Middleware } from "../../core/delivery.ts";
import { MessagingError } from "../../core/errors.ts";
import { shownId } from "../../core/foreign.ts";
import type { ConsumeOptions } from "../../core/options.ts";
import { asProblem } from "../../core/start.ts";
import {
  BROKER,
  brokerOf,
  DELIVERY,
  HANDLERS,
  type HandlerClass,
  type HandlerRegistration,
  type HandlerSource,
  handledBy,
  type MessageHandler,
} from "./identifiers.ts";

/** Imported early: fake timers of a test runner must not stop it. */
const { setImmediate } = timers;

/** The most containers per turn of the event loop: some milliseconds, and less than a megabyte. */
const MOST_PER_TURN = 50;

/**
 * Yields to the event loop now and then. inversify holds child containers by weak references, which are cleared only between
 * turns: handlers without I/O would keep all their containers in memory.
 */
class LoopTurns {
  #made = 0;
  #turn: Promise<void> | undefined;

  /** Call it before making a container. Returns a promise to wait for, if any. */
  next(): Promise<void> | undefined {
    this.#made++;
    if (this.#made <= MOST_PER_TURN) return undefined;
    this.#turn ??= new Promise((resolve) => {
      setImmediate(() => {
        this.#made = 0;
        this.#turn = undefined;
        resolve();
      });
    });
    return this.#turn;
  }
}

/** A handler with its source. */
interface PlannedHandler extends HandlerSource {
  readonly handler: HandlerClass<never>;
  readonly address: WorkAddress;
  /** For messages: `Billing, which handles subscription "billing" of topic "order.placed"`. */
  readonly title: string;
}

/** The handlers of a container, and the problems with them. */
interface HandlerPlan {
  readonly handlers: readonly PlannedHandler[];
  readonly problems: readonly MessagingError[];
}

/** Reads the registrations of a container. */
function planHandlers(container: Container): HandlerPlan {
  const problems: MessagingError[] = [];
  const bySource = new Map<string, PlannedHandler>();
  for (const registration of container.getAll(HANDLERS, { optional: true })) {
    const sources = sourcesOf(registration);
    if (sources.length === 0) problems.push(undecorated(registration.handler));
    for (const source of sources) {
      const planned = plan(registration.handler, source);
      const { broker = "" } = source.options;
      const key = JSON.stringify([broker, planned.address]);
      const first = bySource.get(key);
      if (first !== undefined) problems.push(boundTwice(first, planned));
      else if (!container.isBound(broker === "" ? BROKER : brokerOf(broker))) problems.push(noBroker(planned));
      else bySource.set(key, planned);
    }
  }
  return { handlers: [...bySource.values()], problems };
}

function sourcesOf({ handler, source }: HandlerRegistration): readonly HandlerSource[] {
  return source === undefined ? handledBy(handler) : [source];
}

function plan(handler: HandlerClass<never>, source: HandlerSource): PlannedHandler {
  const { destination, subscription = "" } = source;
  const address: WorkAddress =
    destination.kind === "queue"
      ? { kind: "queue", name: destination.name }
      : { kind: "subscription", topic: destination.name, name: subscription };
  return { ...source, handler, address, title: `${handler.name}, which handles ${describeAddress(address)}` };
}

function undecorated({ name }: HandlerClass<never>): MessagingError {
  const what = `${name} was bound without a destination`;
  return new MessagingError(
    "invalid",
    `${what}: put @Handles(…) on the class itself, or pass the destination: bindHandler(binder, queue, ${name})`,
  );
}

function boundTwice(first: PlannedHandler, second: PlannedHandler): MessagingError {
  const who =
    first.handler === second.handler
      ? `${first.handler.name} is bound twice for`
      : `${first.handler.name} and ${second.handler.name} both handle`;
  return new MessagingError(
    "conflict",
    `${who} ${describeAddress(first.address)} in one container, so each would get a part of the messages. ` +
      "Use one subscription of a topic for each; for parallel work raise concurrency",
  );
}

function noBroker({ title, options }: PlannedHandler): MessagingError {
  const { broker } = options;
  const what = broker === undefined ? "no unnamed broker" : `no broker "${broker}"`;
  const how =
    broker === undefined ? "{ broker }, or set broker in the handler's options" : `{ brokers: { ${broker}: … } }`;
  return new MessagingError("invalid", `${title}: the container has ${what}; pass messagingModule ${how}`);
}

/** Called if a release fails after the handler failed. The message gets the handler's error. */
type ReleaseFailed = (error: unknown) => void;

/** Makes a handler for one message, in its own container, and releases it afterwards. */
class MessageScope {
  readonly #parent: Container;
  readonly #perMessage: readonly ContainerModule[];
  readonly #handler: Newable<MessageHandler<never>>;
  readonly #turns: LoopTurns;
  #single: MessageHandler<never> | undefined;

  constructor(
    parent: Container,
    perMessage: readonly ContainerModule[],
    handler: HandlerClass<never>,
    turns: LoopTurns,
  ) {
    this.#parent = parent;
    this.#perMessage = perMessage;
    this.#handler = handler as Newable<MessageHandler<never>>;
    this.#turns = turns;
  }

  /** Uses this handler for all messages from now on. */
  keep(single: MessageHandler<never>): void {
    this.#single = single;
  }

  /**
   * Runs a handler for a message. Rejects as its construction and its `handle` do, and then as its release does. Throws what
   * the `handle` of a kept handler throws.
   */
  run(body: never, delivery: Delivery, releaseFailed: ReleaseFailed): HandlerResult | Promise<HandlerResult> {
    if (this.#single !== undefined) return this.#single.handle(body, delivery);
    const use = (handler: MessageHandler<never>) => handler.handle(body, delivery);
    return this.#within((child) => void child.bind(DELIVERY).toConstantValue(delivery), use, releaseFailed);
  }

  /** Makes a handler, calls `inspect` and releases it. Resolves with how often the delivery was injected. */
  async construct(delivery: Delivery, inspect: (handler: MessageHandler<never>) => void): Promise<number> {
    let injected = 0;
    const counted = (): Delivery => {
      injected++;
      return delivery;
    };
    await this.#within(
      (child) => void child.bind(DELIVERY).toDynamicValue(counted),
      inspect,
      () => {},
    );
    return injected;
  }

  async #within<Result>(
    prepare: (child: Container) => void,
    use: (handler: MessageHandler<never>) => Result | Promise<Result>,
    releaseFailed: ReleaseFailed,
  ): Promise<Result> {
    const turn = this.#turns.next();
    if (turn !== undefined) await turn;
    const child = new Container({ parent: this.#parent });
    let result: Result;
    try {
      prepare(child);
      if (this.#perMessage.length > 0) await child.loadAsync(...this.#perMessage);
      // A singleton in this container lives for one message.
      if (!child.isBound(this.#handler)) child.bind(this.#handler).toSelf().inSingletonScope();
      result = await use(await child.getAsync(this.#handler));
    } catch (error) {
      await child.unbindAllAsync().catch(releaseFailed);
      throw error;
    }
    await child.unbindAllAsync();
    return result;
  }
}

/** The timeout of making and releasing a handler. */
const TRIAL_MS = 30_000;

/** Makes and releases handlers at start, to find those that cannot be made. */
class HandlerTrials {
  /** Problems stay found: a singleton keeps the delivery that it injected. */
  readonly #captive = new Map<HandlerClass<never>, MessagingError>();

  /**
   * Makes a handler twice. An object that injects the delivery only the first time keeps it for all later messages: this is a
   * problem. A handler that is the same both times is kept for all messages. Resolves with the problem, if any.
   */
  async problem(scope: MessageScope, planned: PlannedHandler): Promise<MessagingError | undefined> {
    const { handler, title } = planned;
    const delivery = trialDelivery(planned);
    const made: MessageHandler<never>[] = [];
    let hasMethod: boolean;
    const inspect = (each: MessageHandler<never>): void => void made.push(each);
    try {
      const injected = await settleWithin(TRIAL_MS, tookTooLong, scope.construct(delivery, inspect));
      const again = await settleWithin(TRIAL_MS, tookTooLong, scope.construct(delivery, inspect));
      if (again < injected) this.#captive.set(handler, captive(title));
      // A getter may throw.
      hasMethod = typeof made[0]?.handle === "function";
    } catch (cause) {
      const what = `${title}, could not be made and released for a message`;
      return new MessagingError("invalid", `${what}; see the cause, and bind what is missing`, { cause });
    }
    const [first, second] = made;
    if (first === undefined || !hasMethod)
      return new MessagingError("invalid", `${title}, has no method handle(body, delivery)`);
    if (first === second) scope.keep(first);
    return this.#captive.get(handler);
  }
}

const tookTooLong = (): MessagingError => new MessagingError("timeout", `it took longer than ${TRIAL_MS} ms`);

function captive(title: string): MessagingError {
  const what = `${title}: a singleton that it depends on injects the delivery`;
  return new MessagingError(
    "invalid",
    `${what}, and would keep the first one for all messages. Bind it in transient or request scope, or with perMessage`,
  );
}

/** A placeholder for a delivery of the handler's source. */
function trialDelivery({ destination, subscription }: PlannedHandler): Delivery {
  return {
    id: "trial",
    key: undefined,
    routingKey: undefined,
    headers: {},
    attempt: 1,
    firstPublishedAt: new Date(),
    destination: destination.name,
    subscription,
    signal: new AbortController().signal,
    deadlineAt: new Date(),
    remainingMs: 0,
    native: undefined,
  };
}

/** The consumers of a container, or the problems. */
interface Consumers {
  readonly consumers: readonly Consumer[];
  readonly problems: readonly MessagingError[];
}

/** Makes consumers for the handlers of a container. */
export class ContainerHandlers {
  readonly #perMessage: readonly ContainerModule[];
  readonly #trials: HandlerTrials | undefined;
  readonly #turns = new LoopTurns();
  /** The number of handlers at the last start. */
  #known = 0;

  constructor(perMessage: readonly ContainerModule[], tryHandlers: boolean) {
    this.#perMessage = perMessage;
    this.#trials = tryHandlers ? new HandlerTrials() : undefined;
  }

  /** Makes a paused consumer for each handler, on brokers that are not started. Never rejects. */
  async consume(container: Container): Promise<Consumers> {
    const { handlers, problems } = planHandlers(container);
    this.#known = handlers.length;
    const found: MessagingError[] = [...problems];
    const consumers: Consumer[] = [];
    for (const planned of handlers) {
      const scope = new MessageScope(container, this.#perMessage, planned.handler, this.#turns);
      try {
        const problem = await this.#trials?.problem(scope, planned);
        if (problem !== undefined) found.push(problem);
        consumers.push(await consume(container, planned, scope));
      } catch (error) {
        found.push(asProblem(error));
      }
    }
    return { consumers, problems: found };
  }

  /** The problem with handlers that were bound after the last start, if any: they get no messages. */
  boundSince(container: Container): MessagingError | undefined {
    const { handlers, problems } = planHandlers(container);
    if (handlers.length === this.#known && problems.length === 0) return undefined;
    const what = "handlers were bound after messaging was started, and get no messages";
    return new MessagingError("invalid", `${what}: bind them earlier, or stop() and start again`);
  }
}

async function consume(container: Container, planned: PlannedHandler, scope: MessageScope): Promise<Consumer> {
  const { broker: name, use, ...rest } = planned.options;
  const broker = container.get<Broker>(name === undefined ? BROKER : brokerOf(name));
  const options = use === undefined ? rest : { ...rest, use: await middleware(container, planned, use) };
  const consumer = consumeFrom(broker, planned, handlerIn(scope, planned, broker), options);
  consumer.pause();
  return consumer;
}

function consumeFrom(
  broker: Broker,
  { destination, subscription = "" }: PlannedHandler,
  handler: Handler<unknown>,
  options: ConsumeOptions,
): Consumer {
  if (destination.kind === "queue") return broker.consume<never, unknown>(destination, handler, options);
  return broker.subscribe<never, unknown>(destination, subscription, handler, options);
}

function handlerIn(scope: MessageScope, { title }: PlannedHandler, broker: Broker): Handler<unknown> {
  const { [INTERNALS]: internals } = broker as { readonly [INTERNALS]?: BrokerInternals };
  return (body, delivery) =>
    scope.run(body as never, delivery, (cause) => {
      const what = `${title}, failed on message ${shownId(delivery.id)}, and its objects could not be released; see the cause`;
      const error = new MessagingError("refused", what, { cause });
      if (internals === undefined) process.emitWarning(error);
      else internals.emit({ type: "notice", error });
    });
}

/** Resolves middleware symbols in the container. */
function middleware(
  container: Container,
  { title }: PlannedHandler,
  use: readonly (Middleware | symbol)[],
): Promise<Middleware[]> {
  if (!Array.isArray(use)) throw new MessagingError("invalid", `${title}: use takes an array of middleware or symbols`);
  const found = use.map(async (each) => {
    if (typeof each !== "symbol") return each;
    try {
      return await container.getAsync<Middleware>(each);
    } catch (cause) {
      const what = `${title}, uses ${String(each)}, which could not be resolved; see the cause, and bind middleware to it`;
      throw new MessagingError("invalid", what, { cause });
    }
  });
  return Promise.all(found);
}
