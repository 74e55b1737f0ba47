import { memory, memorySpace } from "../../adapters/memory/index.ts";
import { checkInteger, checkName, checkOptions } from "../../core/checks.ts";
import {
  type Adapter,
  type Broker,
  type BrokerOptions,
  type Clock,
  createBroker,
  MessagingError,
  type Queue,
  type Random,
  systemRandom,
  type Topic,
} from "../../core/index.ts";
import { closeBrokers } from "./close.ts";
import { describeDeadLetters } from "./describe-dead-letters.ts";
import { Failures, type HandlingFailure, type PlannedFailure, type SendFailure } from "./failures.ts";
import { type IdleOptions, untilIdle } from "./idle.ts";
import { Ledger } from "./ledger.ts";
import { Made } from "./made.ts";
import { type Recording, recordingAdapter } from "./recording-adapter.ts";
import { type ConsumedMessage, type DeadLetterRecord, Records, type SentMessage } from "./records.ts";
import { realClock, type TestClock, VirtualClock } from "./test-clock.ts";
import type { TestBrokerOptions, TestKit } from "./test-kit.ts";
import { HandlerWatch } from "./watch-handlers.ts";

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
