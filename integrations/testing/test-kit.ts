import type { Adapter, Broker, BrokerOptions, Queue, Topic } from "../../core/index.ts";
import type { HandlingFailure, PlannedFailure, SendFailure } from "./failures.ts";
import type { IdleOptions } from "./idle.ts";
import type { ConsumedMessage, DeadLetterRecord, SentMessage } from "./records.ts";
import type { TestClock } from "./test-clock.ts";

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
