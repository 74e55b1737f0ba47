import { memory, memorySpace } from "../../adapters/memory/index.ts";
import type { Adapter } from "../../core/adapter.ts";
import type { Broker } from "../../core/broker.ts";
import { checkInteger, checkName, checkOptions } from "../../core/checks.ts";
import { type Clock, type Random, systemRandom } from "../../core/clock.ts";
import { createBroker } from "../../core/create-broker.ts";
import type { Queue, Topic } from "../../core/destination.ts";
import { MessagingError } from "../../core/errors.ts";
import type { BrokerOptions } from "../../core/options.ts";
import { Failures, type HandlingFailure, type PlannedFailure, type SendFailure } from "./failures.ts";
import { type IdleOptions, untilIdle } from "./idle.ts";
import { type ConsumedMessage, type DeadLetterRecord, Ledger, Records, type SentMessage } from "./ledger.ts";
import { Made, type Recording, recordingAdapter } from "./recording-adapter.ts";
import { pause, realClock, realNow, type TestClock, turn, VirtualClock } from "./test-clock.ts";
import { HandlerWatch } from "./watch-handlers.ts";

const MOST_LINES = 20;

/** Dead letters as lines for people: which, why and after how many attempts; never their bodies or headers. */
function describeDeadLetters(dead: readonly DeadLetterRecord[]): string {
  const lines = dead.slice(0, MOST_LINES).map(({ source, id, reason, attempts, errorClass, error }) => {
    const tried = attempts === 1 ? "1 attempt" : `${attempts} attempts`;
    return `\n- ${source}: message ${id}, ${reason} after ${tried}: ${errorClass}: ${error}`;
  });
  if (dead.length > MOST_LINES) lines.push(`\n- and ${dead.length - MOST_LINES} more`);
  return `${dead.length === 1 ? "1 dead letter" : `${dead.length} dead letters`}, where none was expected:${lines.join("")}`;
}

/** Stops brokers: what runs and what is being sent has so long, in real time, to come to its end. */
async function closeBrokers(brokers: readonly Broker[], clock: TestClock, timeoutMs: number): Promise<void> {
  const deadline = realNow() + timeoutMs;
  for (let looks = 0; brokers.some(isAtWork) && realNow() < deadline; looks++) await (looks < 50 ? turn() : pause(5));
  // The deadlines of a stop are the brokers' clock's.
  await clock.passUntil(Promise.all(brokers.map((broker) => broker.stop({ timeoutMs: 0 }))));
}

function isAtWork(broker: Broker): boolean {
  const { state, publishing, consumers } = broker.status();
  if (state !== "started") return false;
  return publishing.messages > 0 || consumers.some(({ running }) => running > 0);
}

/** The options of {@link testBroker}: those of `createBroker` for the kit's first broker object, and these. */
export interface TestBrokerOptions<Native = undefined> extends Omit<BrokerOptions, "clock"> {
  /**
   * A broker of its own to run on, or a function that makes an adapter for each broker object of the kit. Default: the
   * in-process broker, on a virtual clock.
   */
  readonly adapter?: Adapter<Native> | (() => Adapter<Native>);
  /**
   * What the names of queues and topics begin with on the broker, so that tests at the same time do not meet. The
   * application, its errors and the records of the kit do not see it. Default: nothing in process, and `test-` with a
   * random word on a broker of its own.
   */
  readonly namePrefix?: string;
  /**
   * Whether what the kit made on a broker of its own stays there after {@link TestKit.close}. Default: it is removed, with
   * all messages, unless `namePrefix` is given.
   */
  readonly keep?: boolean;
  /** Where the virtual clock begins. Default: now. */
  readonly startAt?: Date;
  /**
   * How long {@link TestKit.idle} waits, in milliseconds of real time. Default: 4,000 in process, just under what most
   * runners allow a test, and 30,000 on a broker of its own.
   */
  readonly idleTimeoutMs?: number;
}

/**
 * A broker to test an application with: the engine as it runs in production, on the in-process broker or any other, whose
 * messages are written down, whose time can be moved, and which fails when it is told to. Made by {@link testBroker}.
 */
export interface TestKit<Native = undefined> extends AsyncDisposable {
  /** What the application gets. To be started and, if the application does so, stopped like any other. */
  readonly broker: Broker<Native>;
  /** What the brokers' delays, retries and deadlines run on; virtual on the in-process broker alone. */
  readonly clock: TestClock;
  /** What the names of queues and topics begin with on the broker. */
  readonly namePrefix: string;

  /**
   * Another broker object on the same queues and topics, as another process would have it, with the options of the core's
   * `createBroker`. Throws `invalid` where the kit was given one adapter instead of a function that makes them.
   */
  createBroker(options?: Omit<BrokerOptions, "clock">): Broker<Native>;

  /**
   * What the application sent there and the broker has confirmed to the engine, in that order; what the engine sends
   * itself (retries, dead letters) is no part of it. What was replayed from the dead letters is.
   */
  sent<Input, Output>(destination: Queue<Input, Output> | Topic<Input, Output>): readonly SentMessage<Input>[];

  /** What was handled with success and settled, in that order. */
  consumed<Input, Output>(queue: Queue<Input, Output>): readonly ConsumedMessage<Output>[];
  consumed<Input, Output>(topic: Topic<Input, Output>, subscription: string): readonly ConsumedMessage<Output>[];

  /**
   * What the engine dead-lettered and nobody of this kit has taken out again; of all sources, or of one. What a broker moves
   * to the dead letters by itself (RabbitMQ does so with what expires) is not seen.
   */
  deadLetters(): readonly DeadLetterRecord[];
  deadLetters<Input, Output>(queue: Queue<Input, Output>): readonly DeadLetterRecord[];
  deadLetters<Input, Output>(topic: Topic<Input, Output>, subscription: string): readonly DeadLetterRecord[];

  /**
   * Throws an error that lists the dead letters, if there are any: their sources, ids, reasons, attempts and last errors,
   * and not their bodies. Of all sources, or of one.
   */
  expectNoDeadLetters(): void;
  expectNoDeadLetters<Input, Output>(queue: Queue<Input, Output>): void;
  expectNoDeadLetters<Input, Output>(topic: Topic<Input, Output>, subscription: string): void;

  /**
   * Makes the next send to a destination, or the next attempt to handle one of its messages, fail as it is told. Failures
   * of the same destination happen in the order of the calls. Throws `invalid` for wrong options.
   */
  failNext(failure: SendFailure | HandlingFailure): PlannedFailure;

  /**
   * Resolves when the kit's brokers have nothing left to do: no send is unanswered, nothing is held, and nothing that a
   * consumer takes is queued, delayed or to be retried. What nobody consumes, or only a paused consumer, is not waited for.
   *
   * In process, time is moved to the next thing that is due whenever nothing else can happen, as far as it takes; while a
   * handler runs it stands still. On a broker of its own retries and delays are waited for, and the broker is asked for its
   * depths. Rejects with `timeout`, which says what is left and where: a handler that hangs, a message that is not due.
   */
  idle(options?: IdleOptions): Promise<void>;

  /** Forgets what was recorded, and the failures that are still to come. Messages stay. */
  clear(): void;

  /**
   * Stops every broker object of the kit. Handlers and sends have a second of real time to come to their end; then signals
   * are aborted and messages given back. Then removes from a broker of its own what the kit made there, unless it is to be
   * kept; what the adapter cannot remove stays. Rejects if the broker does not let it. A second call waits for the first.
   */
  close(): Promise<void>;
}

const BROKER_OPTIONS = ["destinations", "declare", "require", "publish", "consume", "use", "onEvent", "random"];
const OPTIONS = ["adapter", "namePrefix", "keep", "startAt", "idleTimeoutMs", ...BROKER_OPTIONS];
const IDLE_TIMEOUT_MS = { inProcess: 4_000, elsewhere: 30_000 };
const CLOSE_TIMEOUT_MS = 1_000;

/**
 * Makes a broker to test an application with; see {@link TestKit}. Nothing is connected before it is started. Retry delays
 * have no random part in it unless `random` is given: they are exactly the policy's. Throws `invalid` for wrong options.
 */
export function testBroker<Native = undefined>(options?: TestBrokerOptions<Native>): TestKit<Native>;
export function testBroker(options: TestBrokerOptions<unknown> = {}): TestKit<unknown> {
  checkOptions("testBroker", options, OPTIONS);
  const { adapter, startAt = new Date(), idleTimeoutMs, namePrefix, keep, ...brokerOptions } = options;
  if (idleTimeoutMs !== undefined) checkInteger("testBroker { idleTimeoutMs }", idleTimeoutMs, 1);
  if (!(startAt instanceof Date) || Number.isNaN(startAt.getTime())) {
    throw new MessagingError("invalid", "testBroker { startAt } takes a valid Date");
  }
  if (namePrefix !== undefined && namePrefix !== "") checkName("name prefix", `${namePrefix}x`);
  if (adapter === undefined) {
    const clock = new VirtualClock(startAt.getTime());
    const space = memorySpace({ clock });
    return new Kit(() => memory({ space, clock }), namePrefix ?? "", clock, brokerOptions, {
      idleTimeoutMs: idleTimeoutMs ?? IDLE_TIMEOUT_MS.inProcess,
      keep: true,
    });
  }
  if (options.startAt !== undefined) {
    throw new MessagingError(
      "invalid",
      "testBroker takes startAt for its virtual clock, and an adapter has its own time",
    );
  }
  const adapters = typeof adapter === "function" ? adapter : onlyOnce(adapter);
  return new Kit(adapters, namePrefix ?? randomPrefix(), undefined, brokerOptions, {
    idleTimeoutMs: idleTimeoutMs ?? IDLE_TIMEOUT_MS.elsewhere,
    keep: keep ?? namePrefix !== undefined,
  });
}

function onlyOnce<Native>(adapter: Adapter<Native>): () => Adapter<Native> {
  let taken = false;
  return () => {
    if (taken) {
      throw new MessagingError(
        "invalid",
        "an adapter serves one broker object: for several give testBroker a function that makes them, as in { adapter: () => rabbitmq({ url }) }",
      );
    }
    taken = true;
    return adapter;
  };
}

const PREFIX_LETTERS = 10;

function randomPrefix(): string {
  const letters = [...systemRandom().bytes(PREFIX_LETTERS)].map((byte) => (byte % 32).toString(32));
  return `test-${letters.join("")}-`;
}

/** The least that chance may give: retries come exactly when the policy says. */
function withoutJitter(): Random {
  return { ...systemRandom(), fraction: () => 0 };
}

interface Settings {
  readonly idleTimeoutMs: number;
  /** Whether what was made on the broker stays there. */
  readonly keep: boolean;
}

class Kit<Native> implements TestKit<Native> {
  readonly broker: Broker<Native>;
  readonly clock: TestClock;
  readonly namePrefix: string;
  readonly #makeAdapter: () => Adapter<Native>;
  readonly #recording: Recording;
  readonly #brokers: Broker<Native>[] = [];
  readonly #settings: Settings;
  readonly #adapter: Adapter<Native>;
  #closing: Promise<void> | undefined;

  constructor(
    makeAdapter: () => Adapter<Native>,
    namePrefix: string,
    clock: VirtualClock | undefined,
    options: Omit<BrokerOptions, "clock">,
    settings: Settings,
  ) {
    this.#makeAdapter = makeAdapter;
    this.namePrefix = namePrefix;
    this.#settings = settings;
    const adapter = makeAdapter();
    this.clock = clock ?? realClock(adapter.name);
    this.#recording = newRecording(this.clock);
    this.#adapter = recordingAdapter(adapter, namePrefix, this.#recording);
    this.broker = this.#make(this.#adapter, options);
  }

  createBroker(options: Omit<BrokerOptions, "clock"> = {}): Broker<Native> {
    checkOptions("createBroker", options, BROKER_OPTIONS);
    return this.#make(recordingAdapter(this.#makeAdapter(), this.namePrefix, this.#recording), options);
  }

  #make(adapter: Adapter<Native>, options: Omit<BrokerOptions, "clock">): Broker<Native> {
    const broker = createBroker(adapter, {
      ...options,
      clock: this.clock,
      random: options.random ?? withoutJitter(),
      use: [...(options.use ?? []), this.#recording.handlers.middleware],
    });
    this.#brokers.push(broker);
    return broker;
  }

  sent<Input, Output>(destination: Queue<Input, Output> | Topic<Input, Output>): readonly SentMessage<Input>[] {
    return this.#recording.records.sent(destination);
  }

  consumed<Input, Output>(
    destination: Queue<Input, Output> | Topic<Input, Output>,
    subscription?: string,
  ): readonly ConsumedMessage<Output>[] {
    return this.#recording.records.consumed(destination, subscription);
  }

  deadLetters(
    destination?: Queue<never, unknown> | Topic<never, unknown>,
    subscription?: string,
  ): readonly DeadLetterRecord[] {
    return this.#recording.records.deadLetters(destination, subscription);
  }

  expectNoDeadLetters(destination?: Queue<never, unknown> | Topic<never, unknown>, subscription?: string): void {
    const dead = this.#recording.records.deadLetters(destination, subscription);
    if (dead.length > 0) throw new Error(describeDeadLetters(dead));
  }

  failNext(failure: SendFailure | HandlingFailure): PlannedFailure {
    return this.#recording.failures.plan(failure);
  }

  async idle(options: IdleOptions = {}): Promise<void> {
    checkOptions("idle", options, ["dueWithinMs", "until", "timeoutMs"]);
    const {
      dueWithinMs = Number.POSITIVE_INFINITY,
      until = () => true,
      timeoutMs = this.#settings.idleTimeoutMs,
    } = options;
    if (options.dueWithinMs !== undefined) checkInteger("idle { dueWithinMs }", dueWithinMs, 0);
    if (typeof until !== "function") throw new MessagingError("invalid", "idle { until } takes a function");
    checkInteger("idle { timeoutMs }", timeoutMs, 1);
    const subject = { brokers: this.#brokers, recording: this.#recording, clock: this.clock };
    await untilIdle(subject, { dueWithinMs, until, timeoutMs });
  }

  clear(): void {
    this.#recording.records.clear();
    this.#recording.failures.clear();
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await closeBrokers(this.#brokers, this.clock, CLOSE_TIMEOUT_MS);
    if (!this.#settings.keep) await this.#recording.made.remove(this.#adapter);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

function newRecording(clock: Clock): Recording {
  const failures = new Failures();
  return {
    clock,
    failures,
    ledger: new Ledger(clock),
    records: new Records(),
    handlers: new HandlerWatch(failures),
    consumed: new Set(),
    made: new Made(),
  };
}
