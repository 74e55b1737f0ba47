import { memory, memorySpace } from "../../adapters/memory/index.ts";
import type { Adapter } from "../../core/adapter.ts";
import type { Broker } from "../../core/broker.ts";
import { checkInteger, checkName, checkOptions } from "../../core/checks.ts";
import { type Clock, type Random, systemRandom } from "../../core/clock.ts";
import { createBroker } from "../../core/create-broker.ts";
import type { Queue, Topic } from "../../core/destination.ts";
import { MessagingError } from "../../core/errors.ts";
import { shownId } from "../../core/foreign.ts";
import type { BrokerOptions } from "../../core/options.ts";
import { Failures, type HandlingFailure, type PlannedFailure, type SendFailure } from "./failures.ts";
import { type IdleOptions, untilIdle } from "./idle.ts";
import {
  type ConsumedMessage,
  type DeadLetterRecord,
  HandlerWatch,
  Ledger,
  Records,
  type SentMessage,
} from "./ledger.ts";
import { Made, type Recording, recordingAdapter } from "./recording-adapter.ts";
import { pause, realClock, realNow, type TestClock, turn, VirtualClock } from "./test-clock.ts";

const MOST_LINES = 20;

/** Formats dead letters, without bodies and headers. */
function describeDeadLetters(dead: readonly DeadLetterRecord[]): string {
  const lines = dead.slice(0, MOST_LINES).map(({ source, id, reason, attempts, errorClass, error }) => {
    const tried = attempts === 1 ? "1 attempt" : `${attempts} attempts`;
    return `\n- ${source}: message ${shownId(id)}, ${reason} after ${tried}: ${errorClass}: ${error}`;
  });
  if (dead.length > MOST_LINES) lines.push(`\n- and ${dead.length - MOST_LINES} more`);
  return `${dead.length === 1 ? "1 dead letter" : `${dead.length} dead letters`}, but none was expected:${lines.join("")}`;
}

/** Stops brokers. Handlers and sends have `timeoutMs` of real time. */
async function closeBrokers(brokers: readonly Broker[], clock: TestClock, timeoutMs: number): Promise<void> {
  const deadline = realNow() + timeoutMs;
  for (let checks = 0; brokers.some(isAtWork) && realNow() < deadline; checks++)
    await (checks < 50 ? turn() : pause(5));
  // The timeouts of a stop use the brokers' clock.
  await clock.passUntil(Promise.all(brokers.map((broker) => broker.stop({ timeoutMs: 0 }))));
}

function isAtWork(broker: Broker): boolean {
  const { state, publishing, consumers } = broker.status();
  if (state !== "started") return false;
  return publishing.messages > 0 || consumers.some(({ running }) => running > 0);
}

/** The options of {@link testBroker}: those of `createBroker`, for the kit's first broker object, and these. */
export interface TestBrokerOptions<Native = undefined> extends Omit<BrokerOptions, "clock"> {
  /**
   * An adapter, or a function that makes one for each broker object of the kit. Default: the in-process broker, on a virtual
   * clock.
   */
  readonly adapter?: Adapter<Native> | (() => Adapter<Native>);
  /**
   * The prefix of queue and topic names on the broker, so that concurrent tests do not share them. The application, errors
   * and records do not have it. Default: none in process; `test-` with random characters with an adapter.
   */
  readonly namePrefix?: string;
  /**
   * Whether the queues and topics that the kit created stay on the broker after {@link TestKit.close}. Default: with
   * `namePrefix` they stay, otherwise they are removed with all messages.
   */
  readonly keep?: boolean;
  /** The start of the virtual clock. Default: now. */
  readonly startAt?: Date;
  /**
   * The timeout of {@link TestKit.idle}, in milliseconds of real time. Default: 4,000 in process, just under the timeout of
   * most test runners, and 30,000 with an adapter.
   */
  readonly idleTimeoutMs?: number;
}

/**
 * A broker object for tests of an application, made by {@link testBroker}. It has the real engine, on the in-process broker
 * or with another adapter. It records messages, moves time and injects failures.
 */
export interface TestKit<Native = undefined> extends AsyncDisposable {
  /** The broker object for the application, which starts it, and stops it if it wants. */
  readonly broker: Broker<Native>;
  /** The clock of delays, retries and deadlines; virtual only in process. */
  readonly clock: TestClock;
  /** The prefix of queue and topic names on the broker. */
  readonly namePrefix: string;

  /**
   * Makes another broker object on the same queues and topics, like another process, with the options of the core's
   * `createBroker`. Throws `invalid` if the kit got an adapter instead of a function.
   */
  createBroker(options?: Omit<BrokerOptions, "clock">): Broker<Native>;

  /**
   * The messages that the application sent and the broker confirmed, in that order. Without copies by the engine (retries,
   * dead letters), but with replayed dead letters.
   */
  sent<Input, Output>(destination: Queue<Input, Output> | Topic<Input, Output>): readonly SentMessage<Input>[];

  /** The messages that were handled with success and settled, in that order. */
  consumed<Input, Output>(queue: Queue<Input, Output>): readonly ConsumedMessage<Output>[];
  consumed<Input, Output>(topic: Topic<Input, Output>, subscription: string): readonly ConsumedMessage<Output>[];

  /**
   * The messages that the engine dead-lettered and this kit did not remove; of all sources, or of one. Without messages that
   * the broker dead-letters itself, such as expired ones on RabbitMQ.
   */
  deadLetters(): readonly DeadLetterRecord[];
  deadLetters<Input, Output>(queue: Queue<Input, Output>): readonly DeadLetterRecord[];
  deadLetters<Input, Output>(topic: Topic<Input, Output>, subscription: string): readonly DeadLetterRecord[];

  /**
   * Throws an error if there are dead letters, of all sources or of one. It lists sources, ids, reasons, attempts and last
   * errors, but no bodies.
   */
  expectNoDeadLetters(): void;
  expectNoDeadLetters<Input, Output>(queue: Queue<Input, Output>): void;
  expectNoDeadLetters<Input, Output>(topic: Topic<Input, Output>, subscription: string): void;

  /**
   * Makes the next sends to a destination, or the next attempts on it, fail. Failures of one destination happen in call order.
   * Throws `invalid` for wrong options.
   */
  failNext(failure: SendFailure | HandlingFailure): PlannedFailure;

  /**
   * Resolves when the kit's brokers have nothing left to do: every send is answered, no delivery is in flight, and no
   * consumed message is queued, delayed or to be retried. Messages without a consumer, or with a paused one, do not count.
   *
   * In process, the clock moves to the next event whenever nothing else can happen. It does not move while a handler runs. With
   * an adapter, retries and delays take real time, and the broker is asked for depths. Rejects with `timeout`, and lists
   * what is left: for example a handler that hangs, or a message that is not due.
   */
  idle(options?: IdleOptions): Promise<void>;

  /** Clears the records and the planned failures. Messages stay. */
  clear(): void;

  /**
   * Stops every broker object of the kit. Handlers and sends have one second of real time; then signals are aborted and
   * messages requeued. Then removes what the kit created with an adapter, unless it is kept; what the adapter cannot remove
   * stays. Rejects if the broker refuses. A second call waits for the first.
   */
  close(): Promise<void>;
}

const BROKER_OPTIONS = ["destinations", "declare", "require", "publish", "consume", "use", "onEvent", "random"];
const OPTIONS = ["adapter", "namePrefix", "keep", "startAt", "idleTimeoutMs", ...BROKER_OPTIONS];
const IDLE_TIMEOUT_MS = { inProcess: 4_000, elsewhere: 30_000 };
const CLOSE_TIMEOUT_MS = 1_000;

/**
 * Makes a broker object for tests; see {@link TestKit}. Nothing is connected before it is started. Retry delays have no
 * jitter unless `random` is given. Throws `invalid` for wrong options.
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
    throw new MessagingError("invalid", "testBroker { startAt } is for the virtual clock; an adapter uses real time");
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
        "an adapter serves one broker object: pass testBroker a function to make several, as in { adapter: () => rabbitmq({ url }) }",
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

/** No jitter: retries are due exactly as the policy says. */
function withoutJitter(): Random {
  return { ...systemRandom(), fraction: () => 0 };
}

interface Settings {
  readonly idleTimeoutMs: number;
  /** Whether created queues and topics stay. */
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
