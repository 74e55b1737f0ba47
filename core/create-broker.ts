import type { Adapter, AdapterSignals, Depth, StartPosition, SubscriptionDeclaration } from "./adapter.ts";
import { addressName, type WorkAddress } from "./address.ts";
import type { BatchEntry, Broker, BrokerStatus, Consumer, Receipt } from "./broker.ts";
import { type BrokerInternals, INTERNALS } from "./broker-internals.ts";
import { checkInteger, checkName, checkOptions, randomOf } from "./checks.ts";
import { type Clock, type Random, StopTime, systemClock } from "./clock.ts";
import { jsonCodec } from "./codec.ts";
import { ConsumerEngine, DEFAULT_STOP_MS, keepStarting } from "./consume/consumer.ts";
import { type ConsumerContext, ExclusiveTurn } from "./consume/consumer-context.ts";
import { Declarations, refusal } from "./declarations.ts";
import type { Handler } from "./delivery.ts";
import { checkPosition, checkSubscription, type Queue, type Topic } from "./destination.ts";
import { isMessagingError, MessagingError } from "./errors.ts";
import type { BrokerEvent } from "./events.ts";
import { ignoreRejection, observe } from "./foreign.ts";
import { messageIds } from "./message-ids.ts";
import {
  type BrokerOptions,
  CONSUME_OPTIONS,
  type ConsumeOptions,
  checkBrokerOptions,
  consumerOptions,
  type PublishOptions,
  type SendOptions,
  type StartOptions,
  type StopOptions,
  type SubscribeOptions,
} from "./options.ts";
import { DestinationPublisher } from "./publish/publisher.ts";
import { PublisherEngine } from "./publish/publisher-engine.ts";
import { retryPolicy } from "./retry-policy.ts";
import { asProblem, startFailed, startPatiently, startWait } from "./start.ts";

/** Why nothing is taken any more, and what to do. */
const NOT_STARTED = "it is not started: call start() first";
const STOPPED = "it was stopped; make another by createBroker(), and send before stop() or await it last";
const SUBSCRIBE_OPTIONS = [...CONSUME_OPTIONS, "filter", "from"];

/**
 * Makes a broker object on an adapter. Nothing is connected before `start`. Throws `invalid` for wrong options, and
 * `conflict` for destinations that contradict each other. An adapter object serves one broker object.
 */
export function createBroker<Native>(adapter: Adapter<Native>, options: BrokerOptions = {}): Broker<Native> {
  checkBrokerOptions(options);
  return new AdapterBroker(adapter, options);
}

/** The part of a consumer's context that comes from its options. */
type ConsumerSettings = Pick<
  ConsumerContext,
  "concurrency" | "timeoutMs" | "prefetchMessages" | "prefetchBytes" | "maxParked" | "silenceMs" | "handler" | "retry"
>;

/** The last start or stop that was called. */
interface Turn {
  readonly kind: "start" | "stop";
  readonly done: Promise<void>;
}

/** The broker object over any adapter. */
class AdapterBroker<Native> implements Broker<Native> {
  readonly #adapter: Adapter<Native>;
  readonly #options: BrokerOptions;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #makeId: () => string;
  readonly #declarations = new Declarations();
  readonly #publishing: PublisherEngine;
  readonly #sending: DestinationPublisher;
  #consumers: ConsumerEngine[] = [];
  readonly #json = jsonCodec();
  readonly #exclusiveTurn = new ExclusiveTurn();
  readonly [INTERNALS]: BrokerInternals;
  /** Aborted by `stop`: no consumer is to be started late any more, and patterns end what they do. */
  #stopped = new AbortController();
  #state: BrokerStatus["state"] = "new";
  #connected = false;
  #blocked: string | undefined;
  #turn: Turn | undefined;
  /** The time of the last stop that was called. */
  #stopTime: StopTime;
  /** Ends the pauses of a start that waits for its broker. */
  #waiting: AbortController | undefined;

  constructor(adapter: Adapter<Native>, options: BrokerOptions) {
    this.#adapter = adapter;
    this.#options = options;
    this.#clock = options.clock ?? systemClock();
    this.#random = randomOf("createBroker { random }", options.random, (error) =>
      this.#emit({ type: "notice", error }),
    );
    this.#stopTime = new StopTime(this.#clock);
    this.#makeId = messageIds(this.#clock, this.#random);
    this.#publishing = new PublisherEngine(adapter, options.publish ?? {}, this.#clock, this.#random);
    this.#publishing.refuse(NOT_STARTED);
    this.#sending = new DestinationPublisher(adapter, this.#publishing, this.#clock, this.#random, this.#json);
    for (const destination of options.destinations ?? []) {
      if (destination.kind === "queue") this.#declarations.addQueue(destination);
      else if (destination.kind === "topic") this.#declarations.addTopic(destination);
      else this.#declarations.addSubscription(destination.topic, destination.name, destination.options);
      // From the start, so that no other takes the whole publish buffer.
      if (destination.kind !== "subscription") {
        const { kind, name, options } = destination;
        this.#publishing.route({ kind, name }, options.ordered === true);
      }
    }
    this[INTERNALS] = this.#internals();
  }

  #internals(): BrokerInternals {
    const publishing = this.#publishing;
    return {
      adapter: this.#adapter,
      clock: this.#clock,
      random: this.#random,
      codec: this.#json,
      emit: (event) => this.#emit(event),
      makeId: this.#makeId,
      sendCopy: (to, ordered, message) => publishing.sendCopy(publishing.route(to, ordered), message),
      stopped: () => this.#stopped.signal,
      requireStarted: (what) => {
        if (this.#state !== "started") throw new MessagingError("closed", `${what} cannot be done: call start() first`);
      },
    };
  }

  send<Input, Output>(queue: Queue<Input, Output>, body: Input, options?: SendOptions): Promise<Receipt> {
    return this.#sending.send(queue, body, options);
  }

  publish<Input, Output>(topic: Topic<Input, Output>, body: Input, options?: PublishOptions): Promise<Receipt> {
    return this.#sending.publish(topic, body, options);
  }

  sendMany<Input, Output>(
    queue: Queue<Input, Output>,
    entries: readonly BatchEntry<Input, SendOptions>[],
  ): Promise<readonly Receipt[]> {
    return this.#sending.sendMany(queue, entries);
  }

  publishMany<Input, Output>(
    topic: Topic<Input, Output>,
    entries: readonly BatchEntry<Input, PublishOptions>[],
  ): Promise<readonly Receipt[]> {
    return this.#sending.publishMany(topic, entries);
  }

  consume<Input, Output>(
    queue: Queue<Input, Output>,
    handler: Handler<Output, Native>,
    options: ConsumeOptions<NoInfer<Output>> = {},
  ): Consumer {
    checkKind("consume", "queue", queue);
    const where = `consume(queue "${queue.name}")`;
    checkOptions(where, options, CONSUME_OPTIONS);
    const settings = this.#consumerSettings(where, handler as Handler<never>, options);
    const { address, ordered } = this.#declarations.addQueue(queue);
    return this.#consume(address, ordered, undefined, queue, settings);
  }

  subscribe<Input, Output>(
    topic: Topic<Input, Output>,
    subscription: string,
    handler: Handler<Output, Native>,
    options: SubscribeOptions<NoInfer<Output>> = {},
  ): Consumer {
    checkKind("subscribe", "topic", topic);
    const where = `subscribe(topic "${topic.name}", "${subscription}")`;
    checkName("subscription", subscription);
    checkOptions(where, options, SUBSCRIBE_OPTIONS);
    checkSubscription(where, options);
    const settings = this.#consumerSettings(where, handler as Handler<never>, options);
    const declaration = this.#declarations.addSubscription(topic, subscription, options);
    return this.#consume(declaration.address, declaration.ordered, declaration, topic, settings);
  }

  #consumerSettings(where: string, handler: Handler<never>, options: ConsumeOptions<never>): ConsumerSettings {
    if (typeof handler !== "function") {
      throw new MessagingError("invalid", `${where} takes a handler: a function of the body and the delivery`);
    }
    const { retry, use, ...rest } = consumerOptions(where, options as ConsumeOptions, this.#options.consume ?? {});
    // The first middleware of a list is the outermost. The broker's are outside the consumer's.
    const wrapped = [...(this.#options.use ?? []), ...use].reduceRight(
      (next, middleware) => handlerOf(where, middleware(next)),
      handler as Handler<unknown>,
    );
    const notice = (error: MessagingError): void => this.#emit({ type: "notice", error });
    return { ...rest, handler: wrapped, retry: retryPolicy(where, retry, { random: this.#random, notice }) };
  }

  #consume(
    source: WorkAddress,
    ordered: boolean,
    subscription: SubscriptionDeclaration | undefined,
    destination: Queue<never, unknown> | Topic<never, unknown>,
    settings: ConsumerSettings,
  ): Consumer {
    const { delay } = this.#adapter.capabilities;
    const publishing = this.#publishing;
    const consumer = new ConsumerEngine({
      ...settings,
      adapter: this.#adapter,
      publishing,
      clock: this.#clock,
      random: this.#random,
      emit: (event) => this.#emit(event),
      source,
      consumerId: this.#makeId(),
      exclusiveTurn: this.#exclusiveTurn,
      sourceName: addressName(source),
      destination: destination.name,
      subscription,
      ordered,
      codec: destination.options.codec ?? this.#json,
      tombstones: destination.options.tombstones,
      schema: destination.schema,
      maxDelayMs: delay.support === "unsupported" ? 0 : delay.maxMs,
      retries: publishing.route(source, ordered),
      deadLetters: publishing.route({ kind: "dead-letters", of: source }, false),
    });
    this.#consumers = [...this.#consumers.filter(({ gone }) => !gone), consumer];
    if (this.#state === "started") this.#startLate(consumer);
    return consumer;
  }

  /** Starts a consumer that was made after `start`: declares its topology first, and tries all again until it works. */
  #startLate(consumer: ConsumerEngine): void {
    const problems = this.#declarations.newProblems(this.#adapter);
    const topology = this.#declarations.topologyOf(consumer.source, this.#options.declare ?? "create");
    const prepare = async (): Promise<void> => {
      const found = problems.length > 0 ? problems : await this.#adapter.declare(topology);
      if (found.length > 0) throw startFailed(found);
    };
    void keepStarting(consumer, this.#clock, prepare, this.#stopped.signal);
  }

  async #declare(): Promise<void> {
    const problems = [...this.#declarations.problems(this.#adapter, this.#options.require ?? [])];
    if (problems.length === 0) {
      problems.push(...(await this.#adapter.declare(this.#declarations.topology(this.#options.declare ?? "create"))));
    }
    if (problems.length > 0) throw startFailed(problems);
  }

  start(options: StartOptions = {}): Promise<void> {
    const waitMs = startWait(options);
    return this.#inTurn("start", () => this.#start(waitMs));
  }

  stop(options: StopOptions = {}): Promise<void> {
    checkOptions("stop", options, ["timeoutMs"]);
    const { timeoutMs = DEFAULT_STOP_MS } = options;
    checkInteger("stop { timeoutMs }", timeoutMs, 0);
    // A call that shares a stop may shorten it.
    const time = this.#turn?.kind === "stop" ? this.#stopTime : new StopTime(this.#clock);
    this.#stopTime = time;
    time.limit(timeoutMs);
    const stopped = this.#inTurn("stop", () => this.#stop(time));
    if (this.#state === "stopping") for (const consumer of this.#consumers) void consumer.halt(timeoutMs);
    this.#waiting?.abort();
    return stopped;
  }

  /** Runs starts and stops one after another. A call of the same kind as the last one that is not done shares it. */
  #inTurn(kind: Turn["kind"], run: () => Promise<void>): Promise<void> {
    const last = this.#turn;
    if (last?.kind === kind) return last.done;
    const before = last?.done.catch(() => {}) ?? Promise.resolve();
    const turn: Turn = { kind, done: before.then(run) };
    this.#turn = turn;
    const over = (): void => {
      if (this.#turn === turn) this.#turn = undefined;
    };
    turn.done.then(over, over);
    return turn.done;
  }

  async #start(waitMs: number): Promise<void> {
    if (this.#state === "started") return;
    this.#state = "starting";
    const waiting = new AbortController();
    this.#waiting = waiting;
    // A stop of the same turn came before there was anything to abort.
    if (this.#turn?.kind === "stop") waiting.abort();
    try {
      await startPatiently(() => this.#tryToStart(), waitMs, {
        name: this.#adapter.name,
        clock: this.#clock,
        random: this.#random,
        signal: waiting.signal,
        notice: (error) => this.#emit({ type: "notice", error }),
      });
    } catch (error) {
      this.#state = "stopped";
      throw error;
    } finally {
      this.#waiting = undefined;
    }
  }

  async #tryToStart(): Promise<void> {
    let opened = false;
    try {
      const problems = this.#declarations.problems(this.#adapter, this.#options.require ?? []);
      if (problems.length > 0) throw startFailed(problems);
      // Set before `open`, so that a connection that is lost during the start counts as lost.
      this.#connected = true;
      await this.#adapter.open(this.#signals());
      opened = true;
      const consumers = [...this.#consumers];
      await this.#declare();
      this.#publishing.open(this.#connected);
      await this.#startConsumers(consumers.filter((consumer) => !consumer.ended));
      this.#state = "started";
      // Consumers that were made during the start.
      for (const consumer of this.#consumers) if (!consumers.includes(consumer)) this.#startLate(consumer);
    } catch (error) {
      // An adapter that this did not open may serve another broker object.
      if (opened) await this.#adapter.close().catch(() => {});
      this.#closed("it could not be started");
      throw isMessagingError(error, "start-failed") ? error : startFailed([asProblem(error)]);
    }
  }

  async #startConsumers(consumers: readonly ConsumerEngine[]): Promise<void> {
    const ends = await Promise.allSettled(consumers.map((consumer) => consumer.start()));
    const failures = ends.flatMap((end) => (end.status === "rejected" ? [asProblem(end.reason)] : []));
    if (failures.length === 0) return;
    await Promise.all(consumers.map((consumer) => consumer.halt(DEFAULT_STOP_MS)));
    throw startFailed(failures);
  }

  #signals(): AdapterSignals {
    return {
      up: () => {
        this.#connected = true;
        this.#publishing.connected(true);
        this.#emit({ type: "up" });
        this.#retryParked();
      },
      down: (error) => {
        this.#connected = false;
        this.#blocked = undefined;
        this.#publishing.connected(false, error);
        this.#emit({ type: "down", error });
      },
      blocked: (reason) => {
        this.#blocked = reason;
        this.#publishing.blocked(true);
        this.#emit({ type: "blocked", reason });
      },
      unblocked: () => {
        this.#blocked = undefined;
        this.#publishing.blocked(false);
        this.#emit({ type: "unblocked" });
        this.#retryParked();
      },
      notice: (error) => this.#emit({ type: "notice", error }),
    };
  }

  #retryParked(): void {
    for (const consumer of this.#consumers) consumer.retryParked();
  }

  #emit(event: BrokerEvent): void {
    observe(this.#options.onEvent, event);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #stop(time: StopTime): Promise<void> {
    if (this.#state !== "started") {
      this.#state = "stopped";
      return;
    }
    this.#state = "stopping";
    this.#stopped.abort();
    this.#stopped = new AbortController();
    await Promise.all(this.#consumers.map((consumer) => consumer.halt(time.leftMs)));
    this.#publishing.refuse(STOPPED);
    await this.#publishing.drain(time);
    await this.#adapter.close().catch(() => {});
    this.#closed(STOPPED);
    this.#state = "stopped";
  }

  #closed(why: string): void {
    this.#publishing.close(why);
    this.#connected = false;
    this.#blocked = undefined;
  }

  async depth(destination: Queue<never, unknown> | Topic<never, unknown>, subscription?: string): Promise<Depth> {
    if (this.#state !== "started") {
      throw new MessagingError("closed", `the depth of ${destination.name} cannot be asked: call start() first`);
    }
    if (destination.kind === "queue") return this.#adapter.depth({ kind: "queue", name: destination.name });
    checkName("subscription", subscription);
    return this.#adapter.depth({ kind: "subscription", topic: destination.name, name: subscription });
  }

  async rewind(topic: Topic<never, unknown>, subscription: string, to: StartPosition): Promise<void> {
    checkKind("rewind", "topic", topic);
    checkName("subscription", subscription);
    const where = `rewind(topic "${topic.name}", "${subscription}")`;
    checkPosition(where, to);
    const refused = refusal(where, this.#adapter, "rewind");
    if (refused !== undefined) throw refused;
    if (this.#state !== "started") throw new MessagingError("closed", `${where} cannot be done: call start() first`);
    await this.#adapter.rewind?.({ kind: "subscription", topic: topic.name, name: subscription }, to);
  }

  status(): BrokerStatus {
    const { messages, bytes, waiting } = this.#publishing;
    return {
      state: this.#state,
      connected: this.#connected,
      blocked: this.#blocked,
      publishing: { messages, bytes, waiting },
      consumers: this.#consumers.map((consumer) => consumer.status()),
    };
  }
}

function checkKind(verb: string, kind: string, destination: { readonly kind: string } | undefined): void {
  if (destination?.kind === kind) return;
  throw new MessagingError("invalid", `${verb} takes a ${kind}, made by ${kind}()`);
}

/** Refuses a middleware that returned a promise or nothing: it would fail at each message. */
function handlerOf(where: string, made: unknown): Handler<unknown> {
  if (typeof made === "function") return made as Handler<unknown>;
  ignoreRejection(made);
  throw new MessagingError("invalid", `${where} { use }: a middleware returned no handler; it must return a function`);
}
