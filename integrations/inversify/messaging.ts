import { type Container, ContainerModule, type ServiceIdentifier } from "inversify";
import type { Broker, BrokerStatus, Consumer } from "../../core/broker.ts";
import { checkInteger, checkName, checkOptions } from "../../core/checks.ts";
import { StopTime, systemClock } from "../../core/clock.ts";
import { DEFAULT_STOP_MS } from "../../core/consume/consumer.ts";
import { MessagingError } from "../../core/errors.ts";
import type { StartOptions, StopOptions } from "../../core/options.ts";
import { asProblem, startFailed, startWait } from "../../core/start.ts";
import { ContainerHandlers } from "./container-handlers.ts";
import { BROKER, brokerOf, MESSAGING, type Messaging, PUBLISHER, publisherOf } from "./identifiers.ts";

/** The options of messaging besides the brokers. */
export interface MessagingSettings {
  /**
   * Modules for the container of each message. Their singletons live for one message, and are deactivated after its handler.
   * Default: none.
   */
  readonly perMessage?: readonly ContainerModule[];
  /**
   * Whether `start` makes each handler twice and releases it, to find those that cannot be made. Singletons that are made for
   * them stay. Default true.
   */
  readonly tryHandlers?: boolean;
  /**
   * How long running handlers may take at a stop without a `timeoutMs`, also when the container is unbound, in milliseconds.
   * Default 30,000.
   */
  readonly stopTimeoutMs?: number;
}

/** One broker object, made by `createBroker`. */
export interface OneBroker {
  /** Injected as `PUBLISHER` and `BROKER`. */
  readonly broker: Broker;
  readonly brokers?: Readonly<Record<string, Broker>>;
}

/** Several broker objects by name. */
export interface NamedBrokers {
  readonly broker?: Broker;
  /** Injected by `publisherOf(name)` and `brokerOf(name)`. Handlers use `{ broker: name }`. */
  readonly brokers: Readonly<Record<string, Broker>>;
}

/** The options of {@link messagingModule}: a broker, brokers by name, or both. */
export type MessagingOptions = MessagingSettings & (OneBroker | NamedBrokers);

/** The name of the unnamed broker in lists. */
const UNNAMED = "default";

const OPTIONS = ["broker", "brokers", "perMessage", "tryHandlers", "stopTimeoutMs"];
const WHERE = "messagingModule";

/** Fills in the defaults. Throws `invalid`. */
function messagingOptions(given: MessagingOptions) {
  checkOptions(WHERE, given, OPTIONS);
  const { broker, brokers = {}, perMessage = [], tryHandlers = true, stopTimeoutMs = DEFAULT_STOP_MS } = given;
  if (typeof brokers !== "object" || brokers === null) throw invalid("{ brokers } takes broker objects by name");
  for (const name of Object.keys(brokers)) checkName("broker", name);
  if (UNNAMED in brokers) throw invalid(`{ brokers } takes no broker named "${UNNAMED}": pass it as { broker }`);
  const all = [...(broker === undefined ? [] : [broker]), ...Object.values(brokers)];
  const isBroker = (each: Broker) => typeof each?.consume === "function";
  if (all.length === 0 || !all.every(isBroker))
    throw invalid("takes { broker } or { brokers }, made by createBroker()");
  if (new Set(all).size < all.length) throw invalid("takes each broker object once, under one name");
  if (!Array.isArray(perMessage) || !perMessage.every((module) => typeof module?.load === "function")) {
    throw invalid("{ perMessage } takes an array of ContainerModules");
  }
  if (typeof tryHandlers !== "boolean") throw invalid("{ tryHandlers } takes true or false");
  checkInteger(`${WHERE} { stopTimeoutMs }`, stopTimeoutMs, 0);
  return { broker, brokers, perMessage: [...perMessage], tryHandlers, stopTimeoutMs };
}

function invalid(what: string): MessagingError {
  return new MessagingError("invalid", `${WHERE} ${what}`);
}

/**
 * Makes a module that puts messaging into a container. Nothing is connected before `startMessaging`. After it,
 * `unbindAllAsync` of the container, or `unloadAsync` of the module, stops everything in order. A container takes one such
 * module. Throws `invalid` for wrong options.
 */
export function messagingModule(options: MessagingOptions): ContainerModule {
  const { broker, brokers, perMessage, tryHandlers, stopTimeoutMs } = messagingOptions(options);
  const named = Object.entries(brokers);
  const identifiers = new Map(named.map(([name]) => [name, brokerOf(name)]));
  if (broker !== undefined) identifiers.set(UNNAMED, BROKER);
  return new ContainerModule(({ bind }) => {
    if (broker !== undefined) {
      bind(BROKER).toConstantValue(broker);
      bind(PUBLISHER).toService(BROKER);
    }
    for (const [name, each] of named) {
      bind(brokerOf(name)).toConstantValue(each);
      bind(publisherOf(name)).toService(brokerOf(name));
    }
    bind(MESSAGING)
      .toDynamicValue(
        () => new ContainerMessaging(identifiers, new ContainerHandlers(perMessage, tryHandlers), stopTimeoutMs),
      )
      .inSingletonScope()
      .onDeactivation((messaging) => messaging.stop());
  });
}

interface Running {
  readonly brokers: readonly Broker[];
  readonly consumers: readonly Consumer[];
}

/** Starts and stops the brokers and consumers of a container. */
class ContainerMessaging implements Messaging {
  /** The identifiers of the brokers by name. */
  readonly #identifiers: ReadonlyMap<string, ServiceIdentifier<Broker>>;
  readonly #handlers: ContainerHandlers;
  readonly #stopTimeoutMs: number;
  #container: Container | undefined;
  /** The brokers of the last start by name. */
  #brokers: ReadonlyMap<string, Broker> | undefined;
  /** While started. */
  #running: Running | undefined;
  /** While it stops. */
  #stopping: (Running & { readonly time: StopTime }) | undefined;
  #last: Promise<void> = Promise.resolve();

  constructor(
    identifiers: ReadonlyMap<string, ServiceIdentifier<Broker>>,
    handlers: ContainerHandlers,
    stopTimeoutMs: number,
  ) {
    this.#identifiers = identifiers;
    this.#handlers = handlers;
    this.#stopTimeoutMs = stopTimeoutMs;
  }

  /** Call it before the first start: inversify does not pass the container. */
  attach(container: Container): void {
    this.#container = container;
  }

  start(options: StartOptions = {}): Promise<void> {
    startWait(options);
    return this.#inTurn(() => this.#start(options));
  }

  stop(options: StopOptions = {}): Promise<void> {
    checkOptions("stop", options, ["timeoutMs"]);
    const { timeoutMs = this.#stopTimeoutMs } = options;
    checkInteger("stop { timeoutMs }", timeoutMs, 0);
    this.#shorten(timeoutMs);
    const stopped = this.#inTurn(() => this.#stop(timeoutMs));
    // A broker in its start would delay the stop.
    for (const broker of this.#brokers?.values() ?? []) if (broker.status().state === "starting") void broker.stop();
    return stopped;
  }

  /** Shortens the stop in progress, if there is one. */
  #shorten(timeoutMs: number): void {
    const { brokers, consumers, time } = this.#stopping ?? {};
    time?.limit(timeoutMs);
    for (const consumer of consumers ?? []) void consumer.stop({ timeoutMs });
    for (const broker of brokers ?? []) if (broker.status().state === "stopping") void broker.stop({ timeoutMs });
  }

  status(): Readonly<Record<string, BrokerStatus>> {
    const brokers = this.#brokers ?? this.#resolved();
    return Object.fromEntries([...brokers].map(([name, broker]) => [name, broker.status()]));
  }

  /** Runs starts and stops one after another. */
  #inTurn(run: () => Promise<void>): Promise<void> {
    const done = this.#last.then(run);
    this.#last = done.catch(() => {});
    return done;
  }

  /** Resolved at each start, so that tests may rebind brokers. */
  #resolved(): ReadonlyMap<string, Broker> {
    const container = this.#attached();
    return new Map([...this.#identifiers].map(([name, identifier]) => [name, container.get(identifier)]));
  }

  #attached(): Container {
    if (this.#container !== undefined) return this.#container;
    throw new MessagingError("invalid", "messaging is not started: call startMessaging(container) first");
  }

  async #start(options: StartOptions): Promise<void> {
    const container = this.#attached();
    if (this.#running !== undefined) {
      const late = this.#handlers.boundSince(container);
      if (late !== undefined) throw startFailed([late]);
      return;
    }
    this.#brokers = this.#resolved();
    const brokers = [...this.#brokers.values()];
    const { consumers, problems } = await this.#handlers.consume(container);
    if (problems.length > 0) {
      await end([], consumers, stopTime(0));
      throw startFailed(problems);
    }
    const failed = failures(await Promise.allSettled(brokers.map((each) => each.start(options))));
    if (failed.length > 0) {
      await end(brokers, consumers, stopTime(0));
      throw startFailed(failed);
    }
    this.#running = { brokers, consumers };
    for (const consumer of consumers) consumer.resume();
  }

  async #stop(timeoutMs: number): Promise<void> {
    if (this.#running === undefined) return;
    const stopping = { ...this.#running, time: stopTime(timeoutMs) };
    this.#stopping = stopping;
    await end(stopping.brokers, stopping.consumers, stopping.time);
    this.#stopping = undefined;
    this.#running = undefined;
  }
}

/** Ends all handlers before it closes a broker: running handlers may publish to any broker. */
async function end(brokers: readonly Broker[], consumers: readonly Consumer[], time: StopTime): Promise<void> {
  await Promise.all(consumers.map((consumer) => consumer.stop({ timeoutMs: time.leftMs })));
  await Promise.all(brokers.map((broker) => broker.stop({ timeoutMs: time.leftMs })));
}

function stopTime(timeoutMs: number): StopTime {
  const time = new StopTime(systemClock());
  time.limit(timeoutMs);
  return time;
}

function failures(ends: readonly PromiseSettledResult<void>[]): readonly MessagingError[] {
  return ends.flatMap((end) => (end.status === "rejected" ? [asProblem(end.reason)] : []));
}
