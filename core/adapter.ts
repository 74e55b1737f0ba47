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
 * What a broker has to offer to the engine: a small contract that deals in batches. Everything a user feels (batching,
 * concurrency, retry, order, leases, dead letters, drain) is written once, above it.
 *
 * An adapter never retries a handler, never decodes a body and never decides a policy. It connects and reconnects by
 * itself, maps names, batches on the wire, and tells the truth.
 *
 * `Native` is the type of the client library's own message, which a handler finds as `delivery.native`.
 */
export interface Adapter<Native = unknown> {
  /** The broker's name in lower case, as messages to people and metrics say it: `rabbitmq`. */
  readonly name: string;
  readonly capabilities: Capabilities;
  readonly sendLimits: SendLimits;

  /**
   * The physical name of an address, injective within one namespace of the broker, for all processes: each declares its own
   * destinations and knows of no others, and what two of them share would go to the other's handlers. {@link addressName}
   * is injective but for a queue and a topic of one name. Two addresses of one process with equal results are refused at
   * start. Throws a `MessagingError` of code `invalid` for a name that the broker cannot carry.
   */
  physicalName(address: Address): string;

  /**
   * Connects, and keeps the connection up from then on, reporting through `signals`, until `close`. Resolves when
   * connected; rejects (`unreachable`, `unauthorized`) when the first connection cannot be made. May be called again
   * after `close`.
   */
  open(signals: AdapterSignals): Promise<void>;

  /**
   * Makes the broker hold the topology, or verifies that it does, as `topology.mode` says; with every queue and
   * subscription come its dead letters and its quarantine log. Idempotent. Resolves with every problem found, empty if none;
   * rejects only if it could not look. After a reconnect the adapter does it again by itself where the mode is `create`.
   */
  declare(topology: Topology): Promise<readonly MessagingError[]>;

  /**
   * Hands a batch for one address to the broker, in order. `report` is called exactly once for every index, at any time,
   * possibly before `send` returns; the engine has a deadline of its own and ignores a report that comes too late.
   * Never throws. While not connected every message is reported `unknown` at once.
   */
  send(to: Address, batch: readonly OutgoingMessage[], report: SendReport): void;

  /**
   * Begins to take messages. The receiver lives until its `close`, over reconnects. Rejects (`not-found`,
   * `unauthorized`, …) if the first subscription fails.
   */
  receive(from: Source, options: ReceiveOptions, sink: DeliverySink<Native>): Promise<Receiver>;

  /**
   * Looks at the dead letters of a destination without taking them, those that a receiver holds included; there where the
   * broker lets its content be read. They come in batches, oldest first, with what stood when the reading came by: what is
   * added or removed meanwhile may or may not be among them. Tokens are undefined. Memory is bounded by a batch, and at
   * most some bytes for each entry. Rejects with `not-found` if there is no such thing. An adapter that has this honours
   * {@link ReceiveOptions.wanted}.
   */
  browse?(of: DeadLettersAddress): AsyncIterable<readonly IncomingMessage<Native>[]>;

  /**
   * The messages that a dead letter refers to, where {@link Receiver.deadLetter} leaves letters without the message itself
   * (`HEADER.deadReference`). Tokens are undefined. Rejects with `not-found` if they are gone, and otherwise with why they
   * cannot be read.
   */
  resolve?(of: DeadLettersAddress, letter: IncomingMessage): Promise<readonly IncomingMessage<Native>[]>;

  /**
   * The quarantine log of a queue or subscription that was declared. Nothing is asked of the broker before its first use, and
   * it may be used until `close`, over reconnects.
   */
  quarantine(of: WorkAddress): QuarantineLog;

  /** How many messages stand at an address. Rejects with `not-found` if there is no such thing. */
  depth(of: Address): Promise<Depth>;

  /**
   * What of anybroker's stands on the broker: queues and subscriptions with their dead letters, and the topics of the
   * subscriptions, in no particular order. For people who look. Rejects with `unsupported` where the broker cannot be asked
   * for it as it is connected, and says what would help.
   */
  list?(): Promise<readonly (WorkAddress | TopicAddress)[]>;

  /**
   * Moves a subscription that stands to another position; there where `capabilities.rewind` is not `unsupported`. Rejects
   * with `conflict` while anybody consumes from it, and with `not-found` if there is no such subscription.
   */
  rewind?(of: SubscriptionAddress, to: StartPosition): Promise<void>;

  /**
   * Shows what is sent to a topic or queue from now on, without taking it from anybody, until the result is called, which
   * leaves nothing behind on the broker. For people who look: what comes while the connection is away may not be shown, nor
   * what comes faster than it is looked at. Resolves when it watches. Rejects with `not-found`, and with `unsupported` for
   * what can be seen only by taking it. While a topic is watched, an event that no subscription takes may count as taken.
   */
  watch?(of: QueueAddress | TopicAddress, watcher: Watcher<Native>): Promise<() => Promise<void>>;

  /**
   * Removes what `declare` makes of a topology from the broker, with all messages on it: for tests that leave nothing
   * behind; the engine never calls it. Nobody may consume from it or send to it any more, and the adapter must not have
   * declared any of it since it was opened, or it may make it again. What does not stand is no error; what does may be seen
   * for a moment longer.
   */
  remove?(topology: Topology): Promise<void>;

  /**
   * What tells that two adapters, opened, lead to one server: they have one in common, compared by `===`. What has none in
   * common may be one server all the same, under another name.
   */
  identities?(of: Address): Promise<readonly unknown[]>;

  /** Closes every receiver and connection. Unsettled deliveries go back to the broker. A second call does nothing. */
  close(): Promise<void>;
}

/** How the adapter wants its batches. */
export interface SendLimits {
  /** The most messages in one batch. */
  readonly maxBatchMessages: number;
  /** The most bytes of bodies and headers in one batch; a single larger message goes alone. */
  readonly maxBatchBytes: number;
  /** The most batches of one address that are in flight at once. */
  readonly maxBatchesInFlight: number;
  /**
   * Whether a batch is stored in order or not at all behind a failure: of its messages with one key, none is stored
   * unless all before it are. Then the messages of a key may share a batch on an ordered destination; otherwise one at
   * a time is in flight per key. Default false.
   */
  readonly storesInOrder?: boolean;
}

/** What an adapter tells the engine about its connection. */
export interface AdapterSignals {
  /** Connected again. Not called for the first connection, which `open` itself reports. */
  up(): void;
  /** The connection is gone, and the adapter is trying to get it back. */
  down(cause: MessagingError): void;
  /** The broker refuses to take messages for now (a memory or disk alarm). Consuming goes on. */
  blocked(reason: string): void;
  unblocked(): void;
  /** Something that people should know and that needs no reaction: a queue made again, a consumer cancelled. */
  notice(error: MessagingError): void;
}

/** What `start` may do to the broker: make what is missing, only look, or neither. */
export type DeclareMode = "create" | "verify" | "none";

/** Everything that must stand on the broker. */
export interface Topology {
  readonly mode: DeclareMode;
  readonly queues: readonly QueueDeclaration[];
  readonly topics: readonly TopicDeclaration[];
  readonly subscriptions: readonly SubscriptionDeclaration[];
}

/** A work queue that must stand on the broker, with its dead letters and its quarantine log. */
export interface QueueDeclaration {
  readonly address: QueueAddress;
  readonly ordered: boolean;
  /** The number of priorities, 1 if the queue has none. */
  readonly priorities: number;
  /** Milliseconds after which a message is dead-lettered instead of delivered. */
  readonly ttlMs?: number;
}

/** A topic that must stand on the broker. */
export interface TopicDeclaration {
  readonly address: TopicAddress;
  readonly ordered: boolean;
}

/** A subscription that must stand on the broker, with its dead letters and its quarantine log. */
export interface SubscriptionDeclaration {
  readonly address: SubscriptionAddress;
  readonly ordered: boolean;
  /** A pattern over routing keys: words between dots, `*` for one word, `#` for any number. */
  readonly filter?: string;
  /** Where a subscription that does not exist yet begins. */
  readonly from: StartPosition;
  readonly ttlMs?: number;
}

/**
 * Where a subscription begins: with what is published from now on, the oldest message kept, a point in time, or, where
 * the broker keeps numbered logs, offsets in them; a log that is not named then begins at the oldest message kept.
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
  /** Undefined only on a copy of a message that came without one. */
  readonly contentType: string | undefined;
  /** The body and all headers, in bytes. */
  readonly size: number;
  /** 0 (lowest) and up. */
  readonly priority: number;
  /** Deliver this many milliseconds from now, never earlier. 0 is at once. At most `capabilities.delay.maxMs`. */
  readonly delayMs: number;
  /** Milliseconds from now after which the message need not be delivered; the engine checks at delivery as well. */
  readonly ttlMs: number | undefined;
  /** On a copy: what came with the original; see {@link IncomingMessage.foreign}. */
  readonly foreign?: ForeignProperties | undefined;
}

/**
 * What came with a message and has no place among the fields of {@link IncomingMessage}: properties that only its broker
 * has, headers that are no text. Made by an adapter, carried by the engine to the copies of the message without a look
 * inside, and read again by an adapter of the same kind, which writes what it can of it. An adapter leaves alone what
 * another kind made. What is about the body alone (an encoding) goes only with that very body.
 */
export interface ForeignProperties {
  /** How much a copy grows by it at most, beside the headers, in bytes. */
  readonly bytes: number;
}

/**
 * - `confirmed`: the broker has it, as safely as it ever will.
 * - `rejected`: the broker does not have it, and trying again would not help.
 * - `unknown`: anything else: it may or may not be stored. The engine sends it again under the same id.
 */
export type SendResult =
  | { readonly status: "confirmed" }
  | { readonly status: "rejected"; readonly error: MessagingError }
  | { readonly status: "unknown"; readonly cause: unknown };

/** How an adapter says what became of the message at an index of a batch; see {@link Adapter.send}. */
export type SendReport = (index: number, result: SendResult) => void;

/** How a receiver is to take messages. */
export interface ReceiveOptions {
  /** The most unsettled deliveries at first; see {@link Receiver.prefetch}. */
  readonly prefetch: number;
  /** Whether order per key was asked for: only one consumer of the source may be active for a key at a time. */
  readonly ordered: boolean;
  /**
   * For dead letters on an adapter with {@link Adapter.browse}: what it says no to is passed over, without a place in the
   * prefetch, and stands where it is. Others may have to wait for it until this receiver is closed. Asked once for each
   * message that the receiver comes by; must not throw.
   */
  readonly wanted?: (message: IncomingMessage) => boolean;
  /** The filter and start position of a subscription, for brokers that apply them while reading. */
  readonly subscription?: SubscriptionDeclaration;
  /**
   * How long a handler may run on a delivery, in milliseconds. A broker that is known to take deliveries back before
   * that, and cannot be asked for more time, refuses with `unsupported`.
   */
  readonly handlerTimeoutMs?: number;
}

/**
 * A small log that all consumers of a source share; see {@link Adapter.quarantine}. It is written and read rarely: only
 * about messages that were redelivered again and again.
 */
export interface QuarantineLog {
  /**
   * Adds a record of some hundred characters. Resolves when the broker has confirmed it, as safely as a message. Rejects if
   * it could not be confirmed within the adapter's usual time for a request; the record may be there nevertheless.
   */
  append(record: string): Promise<void>;
  /**
   * Every record of the last day that was confirmed before the call, by any process, in no particular order; some may be
   * there twice. What an SQS queue keeps from one reader may come with a later call. Rejects if the broker could not be
   * asked. Several readers at a time do not take records from each other.
   */
  read(): Promise<readonly string[]>;
}

/** How long a record of a {@link QuarantineLog} is kept, in milliseconds: a day. */
export const QUARANTINE_KEPT_MS = 24 * 60 * 60 * 1000;

/** What identifies a delivery to the adapter that made it. The engine never looks inside. */
export type DeliveryToken = unknown;

/** A message as it came from the broker. */
export interface IncomingMessage<Native = unknown> {
  readonly token: DeliveryToken;
  /** The id given at publishing, or one that is stable over redeliveries for a message of another sender. */
  readonly id: string;
  readonly key: string | undefined;
  readonly routingKey: string | undefined;
  /** Own string values on an object without a prototype. The engine does not change it. */
  readonly headers: MessageHeaders;
  readonly body: Uint8Array;
  readonly contentType: string | undefined;
  /**
   * How many earlier deliveries of this message ended without being settled: the consumer died, or lost its connection
   * or lease. Deliberate requeues do not count where the broker can tell them apart.
   */
  readonly redeliveries: number;
  /** The priority it was sent with, where the broker tells; a copy keeps it. */
  readonly priority?: number;
  /**
   * When it was sent, as the sender or the broker says, in milliseconds since 1970: what a `Date` holds. It is asked for
   * where neither headers nor id tell; a copy carries the answer.
   */
  readonly sentAt?: number | undefined;
  /**
   * When the broker lets it expire at the latest, in milliseconds since 1970, where its sender gave it a time to live by
   * the broker's own means. It is delivered all the same; its copies end then.
   */
  readonly expiresAt?: number | undefined;
  /** How the body is encoded beside its content type, as in `gzip`, where the broker has a property for that. */
  readonly contentEncoding?: string | undefined;
  /** That there is no body at all, which on a log means that what its key names was deleted. `body` is empty then. */
  readonly tombstone?: boolean;
  /** What a copy is to carry beside all this; see {@link OutgoingMessage.foreign}. */
  readonly foreign?: ForeignProperties | undefined;
  /**
   * Why what is stored there cannot be read. Only from a receiver with {@link Receiver.deadLetter}: `body` is empty then,
   * and the engine has it dead-lettered as `invalid` by that method. No handler gets it, and no copy of it is made.
   */
  readonly unreadable?: MessagingError;
  /**
   * Why some of its headers could not be read. No handler gets it: it is dead-lettered as `invalid`, by a copy with its body
   * and the other headers.
   */
  readonly unreadHeaders?: MessagingError;
  readonly native: Native;
}

/** Where a receiver puts what it takes. No call throws. */
export interface DeliverySink<Native = unknown> {
  deliver(batch: readonly IncomingMessage<Native>[]): void;
  /**
   * These deliveries, or `all` still unsettled ones, are no longer ours: their connection or lease is gone and the
   * broker will deliver them again. Settling them from now on is answered `fenced`.
   */
  lost(tokens: readonly DeliveryToken[] | "all", cause: MessagingError): void;
  /**
   * Others are to have these deliveries soon: those that no handler was started for are requeued, and the others settled
   * when they end. They stay ours until they are settled or lost.
   */
  revoke(tokens: readonly DeliveryToken[]): void;
  /**
   * These deliveries were held about as long as the broker allows, and it will take them back within a moment: those that
   * no handler was started for are requeued, and the attempts that run have failed. Where it is left out, they are lost
   * when the broker takes them.
   */
  overdue?(tokens: readonly DeliveryToken[], cause: MessagingError): void;
  /**
   * The receiver cannot take messages for now, and why; it goes on trying. For what does not mend itself within a moment.
   * Cleared by the next delivery or by `flowing`.
   */
  stalled(cause: MessagingError): void;
  /** The receiver takes messages again, though none may have come. Does nothing unless it was stalled. */
  flowing(): void;
  /**
   * So many events do not match {@link SubscriptionDeclaration.filter} and were passed over, on a broker that has the
   * filter applied while reading. Messages that were sent to the subscription itself are copies, and never among them.
   */
  filtered(count: number): void;
}

/** Who watches; see {@link Adapter.watch}. */
export interface Watcher<Native = unknown> {
  /** What came. Tokens are undefined. Nothing more is shown before it has resolved. Never rejects. */
  seen(batch: readonly IncomingMessage<Native>[]): Promise<void>;
  /** It cannot watch any more, as when the connection is gone: watch again. Called once at most, and not behind the end. */
  ended(cause: MessagingError): void;
}

/** Done with a delivery: `ack` removes it, `requeue` gives it back to be delivered again as soon as possible. */
export interface Settlement {
  readonly token: DeliveryToken;
  readonly action: "ack" | "requeue";
}

/**
 * `settled`: the broker was told. `fenced`: the delivery was not ours any more, nothing was done, the message will come
 * again or has been handled elsewhere.
 */
export type SettleResult = "settled" | "fenced";

/**
 * - `settled`: the broker moves the message to the dead letters, or has done so; the delivery is settled.
 * - `fenced`: the delivery was not ours any more; nothing was done.
 * - `refused`: it cannot be done, and trying again at once would not help; the delivery is as before.
 * - `unknown`: anything else. The delivery is as before; the message may be in the dead letters already.
 */
export type DeadLetterResult =
  | { readonly status: "settled" }
  | { readonly status: "fenced" }
  | { readonly status: "refused"; readonly error: MessagingError }
  | { readonly status: "unknown"; readonly cause: unknown };

/** The way to take messages from one source and to settle them; made by {@link Adapter.receive}. */
export interface Receiver {
  /** How long a delivery is ours without being extended, in milliseconds; undefined where deliveries have no lease. */
  readonly leaseMs: number | undefined;
  /**
   * Sets the most unsettled deliveries from now on. Deliveries already made stay; while there are as many or more, none
   * are added. 0 takes nothing more, and keeps the connection and the membership.
   */
  prefetch(count: number): void;
  /**
   * Settles a batch; one result per settlement, in order. A second settlement of a delivery is `fenced`. Never rejects. While
   * the broker refuses to be told it waits, with the reason said by `stalled`; `close` ends that.
   */
  settle(batch: readonly Settlement[]): Promise<readonly SettleResult[]>;
  /**
   * Puts one delivery into the dead letters by the broker's own means, where it has some that take a message of any size:
   * the engine asks for it when no copy can be made. `letter` is the copy that says why, without headers over the limits; its
   * `body` is the message's own, and an adapter uses of the rest what it can keep. The message stays on the broker until it is in the
   * dead letters. Never rejects.
   */
  deadLetter?(token: DeliveryToken, letter: OutgoingMessage): Promise<DeadLetterResult>;
  /** Renews the lease of each to `leaseMs` from now; `false` where it was lost already. Never rejects. */
  extend(batch: readonly DeliveryToken[]): Promise<readonly boolean[]>;
  /**
   * Resolves with true once the sink has everything that the broker handed out to this receiver before the call, and with
   * false where that cannot be known. Where it is left out, `Depth` counts as ready what is under way. Never rejects.
   */
  caughtUp?(): Promise<boolean>;
  /** Stops taking. What is unsettled goes back to the broker. A second call does nothing. */
  close(): Promise<void>;
}

/** How much stands at an address. */
export interface Depth {
  /** Messages that could be delivered now. */
  readonly ready: number;
  /** Messages delivered and not yet settled, where the broker tells. */
  readonly unsettled: number | undefined;
  /** Whether the numbers are exact at the moment of asking. */
  readonly exact: boolean;
  /** How many consumers there are, of all processes, where what they hold is in none of these numbers. */
  readonly consumers?: number;
}
