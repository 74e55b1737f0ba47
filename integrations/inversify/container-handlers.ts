import type { Container, ContainerModule } from "inversify";
import { type BrokerInternals, INTERNALS } from "../../core/broker-internals.ts";
import {
  type Broker,
  type ConsumeOptions,
  type Consumer,
  type Handler,
  MessagingError,
  type Middleware,
} from "../../core/index.ts";
import { asProblem } from "../../core/start.ts";
import { HandlerTrials } from "./handler-trials.ts";
import { BROKER, brokerOf } from "./identifiers.ts";
import { LoopTurns } from "./loop-turns.ts";
import { MessageScope } from "./message-scope.ts";
import { type PlannedHandler, planHandlers } from "./planned-handler.ts";

/** The consumers of a container, or what keeps it from having them. */
export interface Consumers {
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
