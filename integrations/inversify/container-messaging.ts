import type { Container, ServiceIdentifier } from "inversify";
import { checkInteger, checkOptions } from "../../core/checks.ts";
import { DEFAULT_STOP_MS } from "../../core/consume/consumer.ts";
import {
  type Broker,
  type BrokerStatus,
  type Consumer,
  MessagingError,
  type StartOptions,
  type StopOptions,
} from "../../core/index.ts";
import { asProblem, startFailed, startWait } from "../../core/start.ts";
import type { ContainerHandlers } from "./container-handlers.ts";
import type { Messaging } from "./messaging.ts";

/** The one owner of all lives in a container. */
export class ContainerMessaging implements Messaging {
  /** Of the brokers, by name. */
  readonly #identifiers: ReadonlyMap<string, ServiceIdentifier<Broker>>;
  readonly #handlers: ContainerHandlers;
  #container: Container | undefined;
  /** Of the last start, by name. */
  #brokers: ReadonlyMap<string, Broker> | undefined;
  /** While started. */
  #running: { readonly brokers: readonly Broker[]; readonly consumers: readonly Consumer[] } | undefined;
  #last: Promise<void> = Promise.resolve();

  constructor(identifiers: ReadonlyMap<string, ServiceIdentifier<Broker>>, handlers: ContainerHandlers) {
    this.#identifiers = identifiers;
    this.#handlers = handlers;
  }

  /** Before the first start: inversify does not tell what it makes which container it is in. */
  attach(container: Container): void {
    this.#container = container;
  }

  start(options: StartOptions = {}): Promise<void> {
    startWait(options);
    return this.#inTurn(() => this.#start(options));
  }

  stop(options: StopOptions = {}): Promise<void> {
    checkOptions("stop", options, ["timeoutMs"]);
    const { timeoutMs = DEFAULT_STOP_MS } = options;
    checkInteger("stop { timeoutMs }", timeoutMs, 0);
    const stopped = this.#inTurn(() => this.#stop(timeoutMs));
    // Those that wait for their broker would be waited for.
    for (const broker of this.#brokers?.values() ?? []) if (broker.status().state === "starting") void broker.stop();
    return stopped;
  }

  status(): Readonly<Record<string, BrokerStatus>> {
    const brokers = this.#brokers ?? this.#resolved();
    return Object.fromEntries([...brokers].map(([name, broker]) => [name, broker.status()]));
  }

  /** One after another. */
  #inTurn(run: () => Promise<void>): Promise<void> {
    const done = this.#last.then(run);
    this.#last = done.catch(() => {});
    return done;
  }

  /** At each start, so that a test may rebind them. */
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
      await end([], consumers, 0);
      throw startFailed(problems);
    }
    const failed = failures(await Promise.allSettled(brokers.map((each) => each.start(options))));
    if (failed.length > 0) {
      await end(brokers, consumers, 0);
      throw startFailed(failed);
    }
    this.#running = { brokers, consumers };
    for (const consumer of consumers) consumer.resume();
  }

  async #stop(timeoutMs: number): Promise<void> {
    if (this.#running === undefined) return;
    const { brokers, consumers } = this.#running;
    await end(brokers, consumers, timeoutMs);
    this.#running = undefined;
  }
}

/** The handlers of all brokers end before any broker is closed: what still runs may publish to another. */
async function end(brokers: readonly Broker[], consumers: readonly Consumer[], timeoutMs: number): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  await Promise.all(consumers.map((consumer) => consumer.stop({ timeoutMs })));
  const left = Math.max(Math.ceil(deadline - performance.now()), 0);
  await Promise.all(brokers.map((broker) => broker.stop({ timeoutMs: left })));
}

function failures(ends: readonly PromiseSettledResult<void>[]): readonly MessagingError[] {
  return ends.flatMap((end) => (end.status === "rejected" ? [asProblem(end.reason)] : []));
}
