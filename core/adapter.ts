import type {
  Address,
  DeadLettersAddress,
  QueueAddress,
  Source,
  SubscriptionAddress,
  TopicAddress,
  WorkAddress,
} from "./address.ts";
import type { Capabilities } from "./capabilities.ts";
import type { MessageHeaders } from "./delivery.ts";
import type { MessagingError } from "./errors.ts";

/**
 * The contract between the engine and a broker; it deals in batches. The engine above it has all policies, once for all
 * brokers: batching, concurrency, retries, order, leases, dead letters, draining.
 *
 * An adapter connects and reconnects by itself, maps names, sends batches, and reports the truth. It never retries a
 * handler, decodes a body or decides a policy.
 *
 * `Native` is the type of the client library's own message, which handlers get as `delivery.native`.
 */
export interface Adapter<Native = unknown> {
  /** The broker's name in lower case, for error messages and metrics: `rabbitmq`. */
  readonly name: string;
  readonly capabilities: Capabilities;
  readonly sendLimits: SendLimits;

  /**
   * Returns the physical name of an address on the broker. Within one namespace of the broker two addresses must never
   * share a name, also in different processes: messages would reach the wrong handlers. `addressName` keeps all
   * addresses apart, except a queue and a topic of one name. Two addresses of one process with one name are refused at
   * start. Throws `invalid` for a name that the broker cannot carry.
   */
  physicalName(address: Address): string;

  /**
   * Connects, and keeps the connection until `close`; `signals` reports its state. Resolves when connected. Rejects
   * (`unreachable`, `unauthorized`) if the first connection fails, and with `invalid` while it is open already. A call that
   * rejects leaves everything as it was: the engine does not call `close` after it. May be called again after `close`.
   */
  open(signals: AdapterSignals): Promise<void>;

  /**
   * Creates or verifies the topology, as `topology.mode` says, with the dead letters and the quarantine log of every queue
   * and subscription. Idempotent. Resolves with every problem found; rejects only if it could not check. In mode `create`
   * the adapter repeats it by itself after a reconnect.
   */
  declare(topology: Topology): Promise<readonly MessagingError[]>;

  /**
   * Sends a batch to one address, in order. It calls `report` exactly once for every index, at any time, also before it
   * returns; the engine ignores late reports. Never throws. Without a connection it reports every message `unknown` at
   * once.
   */
  send(to: Address, batch: readonly OutgoingMessage[], report: SendReport): void;

  /**
   * Begins to take messages. The receiver works until its `close`, over reconnects. Rejects (`not-found`,
   * `unauthorized`, …) if it cannot begin.
   */
  receive(from: Source, options: ReceiveOptions, sink: DeliverySink<Native>): Promise<Receiver>;

  /**
   * Reads dead letters without consuming them, where the broker can browse: batches, oldest first, also those that a
   * receiver holds. Concurrent changes may be missed. Tokens are undefined. Memory is bounded by a batch and a few bytes
   * per dead letter. A last message with {@link IncomingMessage.unreadable} represents dead letters that could not be read:
   * then the list is not complete. Rejects with `not-found`. An adapter with this method supports
   * {@link ReceiveOptions.wanted}.
   */
  browse?(of: DeadLettersAddress): AsyncIterable<readonly IncomingMessage<Native>[]>;

  /**
   * Reads the messages that a dead letter refers to, where {@link Receiver.deadLetter} stores only a reference
   * (`HEADER.deadReference`). Tokens are undefined. Rejects with `not-found` if they are gone, or with why they cannot be
   * read.
   */
  resolve?(of: DeadLettersAddress, letter: IncomingMessage): Promise<readonly IncomingMessage<Native>[]>;

  /**
   * Returns the quarantine log of a declared queue or subscription. It makes no request before its first use, and works
   * until `close`, over reconnects.
   */
  quarantine(of: WorkAddress): QuarantineLog;

  /** Counts the messages at an address. Rejects with `not-found`. */
  depth(of: Address): Promise<Depth>;

  /**
   * Lists anybroker's queues and subscriptions on the broker (those with dead letters), and the topics of the
   * subscriptions, in no particular order. For operators. Rejects with `unsupported` where this connection does not allow
   * it, and says what would help.
   */
  list?(): Promise<readonly (WorkAddress | TopicAddress)[]>;

  /**
   * Moves an existing subscription to another position, unless `capabilities.rewind` is `unsupported`. Rejects with
   * `conflict` while a consumer is open, and with `not-found`.
   */
  rewind?(of: SubscriptionAddress, to: StartPosition): Promise<void>;

  /**
   * Shows new messages of a topic or queue without consuming them. Resolves when it watches, with a function that ends it
   * and leaves nothing on the broker. For operators: messages may be missed during a reconnect, or when they come too
   * fast. Rejects with `not-found`, and with `unsupported` where only consuming shows messages. While a topic is watched,
   * an event that no subscription takes may count as taken.
   */
  watch?(of: QueueAddress | TopicAddress, watcher: Watcher<Native>): Promise<() => Promise<void>>;

  /**
   * Removes a topology from the broker, with all its messages. For tests; the engine never calls it. Nothing may consume
   * from it or send to it any more. The adapter must not have declared any of it since `open`, or it may create it again.
   * Missing parts are no error; removed parts may be visible for a moment longer.
   */
  remove?(topology: Topology): Promise<void>;

  /**
   * Returns values that identify the server. Two open adapters with one value in common, by `===`, lead to one server.
   * Without a common value they may still do, under another name.
   */
  identities?(of: Address): Promise<readonly unknown[]>;

  /** Closes every receiver and connection. The broker requeues unsettled deliveries. A second call does nothing. */
  close(): Promise<void>;
}

/** The limits of the batches for an adapter. */
export interface SendLimits {
  /** The most messages in one batch. */
  readonly maxBatchMessages: number;
  /** The most bytes of bodies and headers in one batch; a single larger message goes alone. */
  readonly maxBatchBytes: number;
  /** The most batches of one address that are in flight at once. */
  readonly maxBatchesInFlight: number;
  /**
   * Whether no message of a batch is stored unless all earlier ones of its key are. If so, messages of a key may share a
   * batch on an ordered destination; otherwise only one message per key is in flight. Default false.
   */
  readonly storesInOrder?: boolean;
}

/** The reports of an adapter about its connection. */
export interface AdapterSignals {
  /** It has reconnected. Not called for the first connection, which `open` reports. */
  up(): void;
  /** The connection is lost, and the adapter reconnects. */
  down(cause: MessagingError): void;
  /** The broker takes no messages for now (a memory or disk alarm). Consuming continues. */
  blocked(reason: string): void;
  unblocked(): void;
  /** Something worth knowing that needs no reaction: a queue created again, a consumer cancelled. */
  notice(error: MessagingError): void;
}

/** What `start` does about the topology: create missing parts, verify all parts, or neither. */
export type DeclareMode = "create" | "verify" | "none";

/** Everything that must exist on the broker. */
export interface Topology {
  readonly mode: DeclareMode;
  readonly queues: readonly QueueDeclaration[];
  readonly topics: readonly TopicDeclaration[];
  readonly subscriptions: readonly SubscriptionDeclaration[];
}

/** A work queue that must exist, with its dead letters and its quarantine log. */
export interface QueueDeclaration {
  readonly address: QueueAddress;
  readonly ordered: boolean;
  /** The number of priorities, 1 if the queue has none. */
  readonly priorities: number;
  /** Milliseconds after which a message is dead-lettered instead of delivered. */
  readonly ttlMs?: number;
}

/** A topic that must exist. */
export interface TopicDeclaration {
  readonly address: TopicAddress;
  readonly ordered: boolean;
}

/** A subscription that must exist, with its dead letters and its quarantine log. */
export interface SubscriptionDeclaration {
  readonly address: SubscriptionAddress;
  readonly ordered: boolean;
  /** A pattern over routing keys: words between dots, `*` for one word, `#` for any number. */
  readonly filter?: string;
  /** Where a new subscription begins. */
  readonly from: StartPosition;
  readonly ttlMs?: number;
}

/**
 * Where a subscription begins: with messages from now on, the oldest message kept, a point in time, or offsets in the
 * broker's partitions. A partition without an offset begins at the oldest message kept.
 */
export type StartPosition = "now" | "earliest" | Date | { readonly offsets: readonly StartOffset[] };

/** The first message to take from one partition of a topic. */
export interface StartOffset {
  readonly partition: number;
  readonly offset: number;
}

/** A message on its way to the broker. */
export interface OutgoingMessage {
  readonly id: string;
  readonly key: string | undefined;
  readonly routingKey: string | undefined;
  /** The caller's headers and the engine's own, which begin with `anybroker-`. */
  readonly headers: MessageHeaders;
  readonly body: Uint8Array;
  /** Undefined only on a copy of a message without one. */
  readonly contentType: string | undefined;
  /** The body and all headers, in bytes. */
  readonly size: number;
  /** 0 (lowest) and up. */
  readonly priority: number;
  /** The delay in milliseconds; the broker never delivers earlier. At most `capabilities.delay.maxMs`. */
  readonly delayMs: number;
  /** Milliseconds after which the broker need not deliver the message; the engine checks it at delivery too. */
  readonly ttlMs: number | undefined;
  /** On a copy: the properties of the original; see {@link IncomingMessage.foreign}. */
  readonly foreign?: ForeignProperties | undefined;
}

/**
 * Properties of another sender's message without a field in {@link IncomingMessage}: those that only its broker has, and
 * headers that are no text. An adapter makes it, the engine passes it on to copies, and an adapter of the same kind writes
 * it again as far as possible. Adapters ignore those of another kind. Properties of the body, such as an encoding, go only
 * with that body.
 */
export interface ForeignProperties {
  /** The most bytes that it adds to a copy, beside the headers. */
  readonly bytes: number;
}

/**
 * The result of sending one message:
 * - `confirmed`: the broker has stored it, as safely as it can;
 * - `rejected`: the broker does not have it, and another try would not help;
 * - `unknown`: it may or may not be stored. The engine sends it again under the same id. With `unsent` it certainly is
 *   not: nothing was written, so that a later refusal or deadline is no `unconfirmed`.
 */
export type SendResult =
  | { readonly status: "confirmed" }
  | { readonly status: "rejected"; readonly error: MessagingError }
  | { readonly status: "unknown"; readonly cause: unknown; readonly unsent?: true };

/** Reports the result of the message at an index of a batch; see {@link Adapter.send}. */
export type SendReport = (index: number, result: SendResult) => void;

/** The options of {@link Adapter.receive}. */
export interface ReceiveOptions {
  /** The most unsettled deliveries at first; see {@link Receiver.prefetch}. */
  readonly prefetch: number;
  /** The most that the prefetch will ever be. Undefined if that is not known. */
  readonly maxPrefetch?: number;
  /** Whether order is kept per key: then only one consumer of the source may be active for a key at a time. */
  readonly ordered: boolean;
  /**
   * Selects dead letters, on an adapter with {@link Adapter.browse}. Others are skipped: they stay where they are and take
   * no place in the prefetch. Other receivers may get them only after this one is closed. It is called once per message
   * and must not throw.
   */
  readonly wanted?: (message: IncomingMessage) => boolean;
  /** The filter and start position of a subscription, for brokers that apply them while reading. */
  readonly subscription?: SubscriptionDeclaration;
  /**
   * How long a handler may run on a delivery, in milliseconds. An adapter refuses with `unsupported` if its broker takes
   * deliveries back earlier and gives no more time.
   */
  readonly handlerTimeoutMs?: number;
}

/**
 * A small log that all consumers of a source share; see {@link Adapter.quarantine}. It is used rarely: only for messages
 * that were redelivered often.
 */
export interface QuarantineLog {
  /**
   * Adds a record of some hundred characters. Resolves when the broker has confirmed it, as safely as a message. Rejects
   * if there is no confirm within the adapter's request timeout; the record may still exist.
   */
  append(record: string): Promise<void>;
  /**
   * Reads the records of the last day that any process confirmed before the call, in no particular order, perhaps twice.
   * SQS may return some only at a later call. Rejects if the broker cannot be read. Concurrent readers do not take records
   * from each other.
   */
  read(): Promise<readonly string[]>;
}

/** How long a record of a {@link QuarantineLog} is kept, in milliseconds: a day. */
export const QUARANTINE_KEPT_MS = 24 * 60 * 60 * 1000;

/** Identifies a delivery to the adapter that made it. The engine never looks inside. */
export type DeliveryToken = unknown;

/** A message from the broker. */
export interface IncomingMessage<Native = unknown> {
  readonly token: DeliveryToken;
  /** The id from publishing. For another sender's message: one that is the same at each redelivery. */
  readonly id: string;
  readonly key: string | undefined;
  readonly routingKey: string | undefined;
  /** Own string values on an object without a prototype. The engine does not change it. */
  readonly headers: MessageHeaders;
  readonly body: Uint8Array;
  readonly contentType: string | undefined;
  /**
   * How many earlier deliveries were never settled: the consumer crashed, or lost its connection or lease. Deliberate
   * requeues do not count where the broker can distinguish them.
   */
  readonly redeliveries: number;
  /** The priority, where the broker reports it; a copy keeps it. */
  readonly priority?: number;
  /**
   * When it was sent, by the sender or the broker, in milliseconds since 1970, within the range of a `Date`. Used where
   * neither headers nor id have the time; a copy keeps it.
   */
  readonly sentAt?: number | undefined;
  /**
   * When the message expires at the latest, in milliseconds since 1970, if its sender used the broker's own time to live.
   * It is delivered nevertheless; its copies expire then.
   */
  readonly expiresAt?: number | undefined;
  /** The content encoding, such as `gzip`, where the broker has a property for it. */
  readonly contentEncoding?: string | undefined;
  /** Whether there is no body at all: on a log this marks the key as deleted. `body` is empty then. */
  readonly tombstone?: boolean;
  /** More properties for copies; see {@link OutgoingMessage.foreign}. */
  readonly foreign?: ForeignProperties | undefined;
  /**
   * Why the stored message cannot be read; `body` is empty then. Only from a receiver with {@link Receiver.deadLetter},
   * by which the engine dead-letters it as `invalid`. No handler gets it, and no copy is made.
   */
  readonly unreadable?: MessagingError;
  /**
   * Why some headers could not be read. No handler gets the message: it is dead-lettered as `invalid`, by a copy with its
   * body and the other headers.
   */
  readonly unreadHeaders?: MessagingError;
  readonly native: Native;
}

/** Takes the deliveries and reports of a receiver. No call throws. */
export interface DeliverySink<Native = unknown> {
  deliver(batch: readonly IncomingMessage<Native>[]): void;
  /**
   * These deliveries, or `all` unsettled ones, are lost: their connection or lease is gone, and the broker delivers them
   * again. Later settlements of them are `fenced`.
   */
  lost(tokens: readonly DeliveryToken[] | "all", cause: MessagingError): void;
  /**
   * The broker wants these deliveries back, as before a rebalance. The engine requeues those without a running handler,
   * and settles the others when they end. They can be settled until they are lost.
   */
  revoke(tokens: readonly DeliveryToken[]): void;
  /**
   * The broker will take these deliveries back in a moment, because they were held too long. The engine requeues those
   * without a running handler, and fails running attempts. A sink without it loses them when the broker takes them.
   */
  overdue?(tokens: readonly DeliveryToken[], cause: MessagingError): void;
  /**
   * The receiver cannot take messages for now, and keeps trying. For problems that last longer than a moment. The next
   * delivery or `flowing` clears it.
   */
  stalled(cause: MessagingError): void;
  /** The receiver can take messages again. Does nothing unless it was stalled. */
  flowing(): void;
  /**
   * Counts events that {@link SubscriptionDeclaration.filter} skipped, where it is applied while reading. Messages to the
   * subscription itself are copies and are never skipped.
   */
  filtered(count: number): void;
}

/** Gets the messages of {@link Adapter.watch}. */
export interface Watcher<Native = unknown> {
  /** Gets new messages, without tokens. The next ones come after it has resolved. Never rejects. */
  seen(batch: readonly IncomingMessage<Native>[]): Promise<void>;
  /** The watch has failed, for example by a lost connection: watch again. Called once at most, and not after its end. */
  ended(cause: MessagingError): void;
}

/**
 * Settles a delivery: `ack` removes the message, `requeue` has it delivered again as soon as possible, on an ordered source
 * before all later messages of its key.
 */
export interface Settlement {
  readonly token: DeliveryToken;
  readonly action: "ack" | "requeue";
}

/**
 * The result of a settlement:
 * - `settled`: the broker has it;
 * - `fenced`: the delivery was lost, and nothing was done. The message comes again or was handled elsewhere.
 */
export type SettleResult = "settled" | "fenced";

/**
 * The result of {@link Receiver.deadLetter}:
 * - `settled`: the broker moves or has moved the message to the dead letters; the delivery is settled;
 * - `fenced`: the delivery was lost; nothing was done;
 * - `refused`: it cannot be done, and another try at once would not help; the delivery is unchanged;
 * - `unknown`: anything else. The delivery is unchanged; the message may be in the dead letters already.
 */
export type DeadLetterResult =
  | { readonly status: "settled" }
  | { readonly status: "fenced" }
  | { readonly status: "refused"; readonly error: MessagingError }
  | { readonly status: "unknown"; readonly cause: unknown };

/** Takes messages from one source and settles them; made by {@link Adapter.receive}. */
export interface Receiver {
  /** The lease of a delivery in milliseconds; undefined where deliveries have no lease. */
  readonly leaseMs: number | undefined;
  /**
   * Sets the most unsettled deliveries. Existing deliveries stay, and none are added while there are as many or more. With
   * 0 it takes nothing more, and keeps its connection and its membership.
   */
  prefetch(count: number): void;
  /**
   * Settles a batch: one result per settlement, in order. A second settlement of a delivery is `fenced`. Never rejects.
   * While the broker takes no settlements it waits, and reports why by `stalled`; `close` ends that.
   */
  settle(batch: readonly Settlement[]): Promise<readonly SettleResult[]>;
  /**
   * Dead-letters one delivery by the broker's own means, where they take a message of any size. The engine calls it when no
   * copy can be made. `letter` is the copy that says why, within the limits of headers; the adapter keeps what it can of
   * it. The message stays on the broker until it is in the dead letters. Never rejects.
   */
  deadLetter?(token: DeliveryToken, letter: OutgoingMessage): Promise<DeadLetterResult>;
  /** Renews each lease to `leaseMs` from now; `false` where it was lost already. Never rejects. */
  extend(batch: readonly DeliveryToken[]): Promise<readonly boolean[]>;
  /**
   * Resolves with true once the sink has every delivery that the broker sent before the call, and with false where that
   * cannot be known. Without it, `Depth` counts deliveries on their way as ready. Never rejects.
   */
  caughtUp?(): Promise<boolean>;
  /** Stops taking. The broker requeues unsettled deliveries. A second call does nothing. */
  close(): Promise<void>;
}

/** The number of messages at an address. */
export interface Depth {
  /** Messages that can be delivered now. */
  readonly ready: number;
  /** Unsettled messages, where the broker reports them. */
  readonly unsettled: number | undefined;
  /** Whether the numbers are exact at the moment of the call. */
  readonly exact: boolean;
  /** The number of consumers of all processes, on brokers that count their unsettled messages in neither number. */
  readonly consumers?: number;
}
