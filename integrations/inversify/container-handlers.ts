import * as timers from "node:timers";
import { Container, type ContainerModule, type Newable } from "inversify";
import { describeAddress, type WorkAddress } from "../../core/address.ts";
import type { Broker, Consumer } from "../../core/broker.ts";
import { type BrokerInternals, INTERNALS } from "../../core/broker-internals.ts";
import { settleWithin } from "../../core/clock.ts";
import type { Delivery, Handler, HandlerResult, Middleware } from "../../core/delivery.ts";
import { MessagingError } from "../../core/errors.ts";
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

/** Taken once: fake timers of a test runner must not stop it. */
const { setImmediate } = timers;

/** So many containers are made between two turns: some milliseconds, and less than a megabyte. */
const MADE_BETWEEN = 50;

/**
 * Has the event loop turn now and then. inversify knows a child by a weak reference, and what such a reference was made of
 * in a turn is not freed before its end; handlers that wait for nothing would hold all their containers, and the loop.
 */
class LoopTurns {
  #made = 0;
  #turn: Promise<void> | undefined;

  /** Before each container: what to wait for, if anything. */
  next(): Promise<void> | undefined {
    this.#made++;
    if (this.#made <= MADE_BETWEEN) return undefined;
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

/** A handler with the one place that it takes messages from. */
interface PlannedHandler extends HandlerSource {
  readonly handler: HandlerClass<never>;
  readonly address: WorkAddress;
  /** For people: `Billing, which handles subscription "billing" of topic "order.placed"`. */
  readonly title: string;
}

/** What the handlers of a container are, and what keeps them from being started. */
interface HandlerPlan {
  readonly handlers: readonly PlannedHandler[];
  readonly problems: readonly MessagingError[];
}

/** Reads what `bindHandler` left in a container. */
function planHandlers(container: Container): HandlerPlan {
  const problems: MessagingError[] = [];
  const takers = new Map<string, PlannedHandler>();
  for (const registration of container.getAll(HANDLERS, { optional: true })) {
    const sources = sourcesOf(registration);
    if (sources.length === 0) problems.push(undecorated(registration.handler));
    for (const source of sources) {
      const planned = plan(registration.handler, source);
      const { broker = "" } = source.options;
      const place = JSON.stringify([broker, planned.address]);
      const first = takers.get(place);
      if (first !== undefined) problems.push(takenTwice(first, planned));
      else if (!container.isBound(broker === "" ? BROKER : brokerOf(broker))) problems.push(noBroker(planned));
      else takers.set(place, planned);
    }
  }
  return { handlers: [...takers.values()], problems };
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
  const what = `${name} was given to bindHandler and does not say what it handles`;
  return new MessagingError(
    "invalid",
    `${what}: put @Handles(…) on the class itself, or name the destination: bindHandler(binder, queue, ${name})`,
  );
}

function takenTwice(first: PlannedHandler, second: PlannedHandler): MessagingError {
  const who =
    first.handler === second.handler
      ? `${first.handler.name} is bound twice for`
      : `${first.handler.name} and ${second.handler.name} both handle`;
  return new MessagingError(
    "conflict",
    `${who} ${describeAddress(first.address)} in one container, where each would get a part of the messages. ` +
      "Give each its own subscription of a topic; for more at a time raise concurrency",
  );
}

function noBroker({ title, options }: PlannedHandler): MessagingError {
  const { broker } = options;
  const what = broker === undefined ? "no broker without a name" : `no broker "${broker}"`;
  const how =
    broker === undefined ? "{ broker }, or name one in the handler's options" : `{ brokers: { ${broker}: … } }`;
  return new MessagingError("invalid", `${title}: the container has ${what}; give messagingModule ${how}`);
}

/** Told of what could not be released after a handler had failed already; the handler's own error is the message's. */
type ReleaseFailed = (error: unknown) => void;

/** Makes a handler and what it needs for one message, in a container of its own, and releases all of it afterwards. */
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

  /** The handler is one and the same for all messages: nothing is made for any of them from now on. */
  keep(single: MessageHandler<never>): void {
    this.#single = single;
  }

  /**
   * Hands a message to a handler of its own. Rejects with what its construction, its `handle` or, if these went well, its
   * release rejects with; or throws what its `handle` throws.
   */
  run(body: never, delivery: Delivery, releaseFailed: ReleaseFailed): HandlerResult | Promise<HandlerResult> {
    if (this.#single !== undefined) return this.#single.handle(body, delivery);
    const use = (handler: MessageHandler<never>) => handler.handle(body, delivery);
    return this.#within((child) => void child.bind(DELIVERY).toConstantValue(delivery), use, releaseFailed);
  }

  /** Makes a handler, looks at it, and releases it. Resolves with how often the delivery was injected on the way. */
  async construct(delivery: Delivery, look: (handler: MessageHandler<never>) => void): Promise<number> {
    let injected = 0;
    const counted = (): Delivery => {
      injected++;
      return delivery;
    };
    await this.#within(
      (child) => void child.bind(DELIVERY).toDynamicValue(counted),
      look,
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
      // What is a singleton here is one for this message, and is deactivated with it.
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

/** How long a handler may take to be made and released. */
const TRIAL_MS = 30_000;

/** Makes handlers as for a message, and releases them, so that one that cannot be made is known before it is needed. */
class HandlerTrials {
  /** What was found once stays so: the singleton has what it took. */
  readonly #captive = new Map<HandlerClass<never>, MessagingError>();

  /**
   * Makes a handler twice. What injects the delivery the first time only keeps it, and would keep the first message's for
   * all others; a handler that is the same both times is kept for all messages. Resolves with the problem, if there is one.
   */
  async problem(scope: MessageScope, planned: PlannedHandler): Promise<MessagingError | undefined> {
    const { handler, title } = planned;
    const delivery = trialDelivery(planned);
    const made: MessageHandler<never>[] = [];
    const look = (each: MessageHandler<never>): void => void made.push(each);
    try {
      const injected = await settleWithin(TRIAL_MS, tookTooLong, scope.construct(delivery, look));
      const again = await settleWithin(TRIAL_MS, tookTooLong, scope.construct(delivery, look));
      if (again < injected) this.#captive.set(handler, captive(title));
    } catch (cause) {
      const what = `${title}, could not be made and released as for a message`;
      return new MessagingError("invalid", `${what}; see the cause, and bind what it asks for`, { cause });
    }
    const [first, second] = made;
    if (typeof first?.handle !== "function")
      return new MessagingError("invalid", `${title}, has no method handle(body, delivery)`);
    if (first === second) scope.keep(first);
    return this.#captive.get(handler);
  }
}

const tookTooLong = (): MessagingError => new MessagingError("timeout", `it took longer than ${TRIAL_MS} ms`);

function captive(title: string): MessagingError {
  const what = `${title}: a singleton on the way to it injects the delivery`;
  return new MessagingError(
    "invalid",
    `${what}, and would keep the first message's for all others. Bind it in transient or request scope, or per message`,
  );
}

/** Stands in for the delivery of a message: of the right source, and plain otherwise. */
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

/** The consumers of a container, or what keeps it from having them. */
interface Consumers {
  readonly consumers: readonly Consumer[];
  readonly problems: readonly MessagingError[];
}

/** The handlers that are bound in a container, on their way to consumers. */
export class ContainerHandlers {
  readonly #perMessage: readonly ContainerModule[];
  readonly #trials: HandlerTrials | undefined;
  readonly #turns = new LoopTurns();
  /** How many handlers there were at the last start. */
  #known = 0;

  constructor(perMessage: readonly ContainerModule[], tryHandlers: boolean) {
    this.#perMessage = perMessage;
    this.#trials = tryHandlers ? new HandlerTrials() : undefined;
  }

  /** Makes a consumer for each handler, paused, on brokers that are not started. Never rejects. */
  async consume(container: Container): Promise<Consumers> {
    const { handlers, problems } = planHandlers(container);
    this.#known = handlers.length;
    const found: MessagingError[] = [...problems];
    const consumers: Consumer[] = [];
    for (const planned of handlers) {
      const scope = new MessageScope(container, this.#perMessage, planned.handler, this.#turns);
      const problem = await this.#trials?.problem(scope, planned);
      if (problem !== undefined) found.push(problem);
      try {
        consumers.push(await consume(container, planned, scope));
      } catch (error) {
        found.push(asProblem(error));
      }
    }
    return { consumers, problems: found };
  }

  /** The problem with handlers that were bound after the last start, if there are any: nothing would reach them. */
  boundSince(container: Container): MessagingError | undefined {
    const { handlers, problems } = planHandlers(container);
    if (handlers.length === this.#known && problems.length === 0) return undefined;
    const what = "handlers were bound after messaging was started, and would get no message";
    return new MessagingError("invalid", `${what}: bind them before, or stop() and start again`);
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
      const what = `${title}, failed on message ${delivery.id}, and what it had used could not be released; see the cause`;
      const error = new MessagingError("refused", what, { cause });
      if (internals === undefined) process.emitWarning(error);
      else internals.emit({ type: "notice", error });
    });
}

/** Middleware that is given by symbol is in the container. */
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
      const what = `${title}, uses ${String(each)}, which could not be had; see the cause, and bind middleware by it`;
      throw new MessagingError("invalid", what, { cause });
    }
  });
  return Promise.all(found);
}
