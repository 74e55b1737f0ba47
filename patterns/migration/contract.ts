import type { Adapter } from "../../core/adapter.ts";
import type { Broker } from "../../core/broker.ts";
import type { CapabilityName, Support } from "../../core/capabilities.ts";
import type { Middleware } from "../../core/delivery.ts";
import type { Destination } from "../../core/destination.ts";
import type { BrokerOptions } from "../../core/options.ts";
import type { BridgeStatus } from "./bridge-ends.ts";
import type { MigrationStep } from "./steps.ts";
import type { MigrationStore } from "./store.ts";

/** What a migration and those who drive it have to know alike. */
export interface MigrationPlan<Native = unknown> {
  /** The old broker's adapter, used by nobody else. */
  readonly from: Adapter<Native>;
  /** The new broker's adapter, used by nobody else. */
  readonly to: Adapter<Native>;
  /**
   * Everything that moves: queues, topics, and each subscription of each topic, made by `subscription()`. The same list in
   * every process, or what one does not know of is lost when another publishes to the new broker.
   */
  readonly destinations: readonly Destination[];
  /** Where the state is kept. */
  readonly state: MigrationStore;
  /** Tells migrations in one store apart: letters, digits, `.`, `-` and `_`. Default `migration`. */
  readonly name?: string;
}

/** The options of {@link migration}. */
export interface MigrationOptions<Native = unknown> extends MigrationPlan<Native> {
  /**
   * Middleware that runs the handler once per message, such as `idempotent(store)`, with a store that all instances share.
   * A message may come from both brokers: bridged, replayed or sent again. `"waived"` says that every handler may run
   * twice on a message.
   */
  readonly idempotency: Middleware | "waived";
  /** The options of both broker objects. Their destinations are those of the migration. */
  readonly broker?: Omit<BrokerOptions, "destinations">;
  /** Tells instances apart: not used by another at the same time. Default: host, process and a random part. */
  readonly instance?: string;
  /**
   * How long this instance may act without having read the state, in milliseconds; it refuses to publish from the half of it
   * on. A change waits that long for an instance that died. Default 30,000.
   */
  readonly leaseMs?: number;
  /** How often the state is looked at, in milliseconds; at most a sixth of `leaseMs`. Default 1,000. */
  readonly pollMs?: number;
  /**
   * Whether ids are journaled in the state store, for the parity report: two small rows of a batch for each message.
   * `"waived"` does without the proof. Default `"ids"`.
   */
  readonly journal?: "ids" | "waived";
  /** The most messages that wait while their keys move; beyond them `overloaded`. Default 10,000. */
  readonly maxHeld?: number;
  /** Told what happens. What it throws is ignored. */
  readonly onMigrationEvent?: (event: MigrationEvent) => void;
}

/**
 * A broker that moves from one broker to another while it is used. Everything is as on any other, with these additions:
 *
 * - Destinations that are not in the list are refused with `invalid`, so that none stays behind unnoticed.
 * - `send` and `publish` are refused with `closed` while the state could not be read for half of the lease: the message was
 *   not sent. They may wait some seconds, within their `timeoutMs`, while their key moves.
 * - A consumer has `concurrency` handlers over both brokers.
 * - `rewind` is refused with `conflict` while both are used.
 */
export interface Migration<Native = unknown> extends Broker<Native> {
  /** What drives the migration, over this broker's connections. Usable while it is started. */
  readonly control: MigrationControl;
}

/** What happens in an instance. Never holds a body, a header or a credential. */
export type MigrationEvent =
  /** A change is in force for this instance. */
  | { readonly type: "in-force"; readonly step: MigrationStep; readonly share: number; readonly revision: number }
  /** A change was announced; this instance has taken it over. */
  | { readonly type: "taken-over"; readonly step: MigrationStep; readonly share: number; readonly revision: number }
  /** The state cannot be read, and nothing is published until it can. */
  | { readonly type: "stale"; readonly error: unknown }
  /** The state is read again. */
  | { readonly type: "fresh" }
  /** A change cannot be taken over; it is tried again. */
  | { readonly type: "stuck"; readonly error: unknown }
  /**
   * Marks could not be journaled in time: the report may show these as differences until they are. They are tried again
   * while the instance runs, up to 10,000 of them.
   */
  | { readonly type: "unrecorded"; readonly marks: number; readonly error: unknown };

/** The options of {@link migrationControl}. */
export interface MigrationControlOptions extends MigrationPlan {
  /** The options of both broker objects. Their destinations are those of the migration. */
  readonly broker?: Omit<BrokerOptions, "destinations">;
}

/**
 * Drives a migration. Every method rejects as the state store does. All may be called by several at once: of two changes
 * one wins, and the other rejects with `conflict`. What broke off, by a crash or a signal, is taken up by the next
 * `advance` or undone by `rollback`; until then messages flow as before it, or as after it.
 */
export interface MigrationControl {
  readonly name: string;
  /** What the new broker has otherwise; asks nobody. */
  compare(): Comparison;
  /** How far it is, and who acts by what. Asks the state store alone. */
  status(): Promise<MigrationStatus>;
  /**
   * Goes to the next step, or to a larger share. Resolves when every live instance has taken it over and it is in force.
   *
   * - `new` → `prepared`: rejects with `unsupported` if something is lost that `accept` does not name.
   * - → `consuming`; → `publishing` takes the `share`.
   * - → `bridged` moves what nobody handles from the old broker: dead letters, and messages of destinations that
   *   are not ordered. What is ordered has to be handled first. Needs the share 100.
   * - → `proven` rejects with `conflict` if what is missing when it begins was not handled while patience lasts, and waits for
   *   the old broker to be empty.
   * - → `retired`.
   */
  advance(options?: AdvanceOptions): Promise<MigrationStatus>;
  /**
   * Takes back what is announced and not in force; else goes one step back, or to a smaller share, or to the step asked for.
   * To leave `consuming` the new broker has to be empty, and its dead letters are moved back.
   */
  rollback(options?: RollbackOptions): Promise<MigrationStatus>;
  /** Whether every id that went in was handled, with the differences. */
  report(options?: ReportOptions): Promise<ParityReport>;
  /** Closes the connections that it opened itself. A second call does nothing. */
  close(): Promise<void>;
}

interface ChangeOptions {
  /** Who does it, for the history. */
  readonly by?: string;
  /**
   * How long to wait for instances, and for brokers to become empty, in milliseconds; then rejects with `timeout`, and what
   * is announced stays so. Default 120,000.
   */
  readonly patienceMs?: number;
  /** Breaks off the waiting; rejects with the signal's reason. */
  readonly signal?: AbortSignal;
  /**
   * How long a queue has to be seen empty where its broker only estimates how much stands there, such as SQS, in
   * milliseconds. Default 10,000.
   */
  readonly emptyForMs?: number;
  /** Messages per second that are moved. Default: no limit. */
  readonly rate?: number;
  /** Told while it waits or moves. What it throws is ignored. */
  readonly onProgress?: (progress: MigrationProgress) => void;
}

/** The options of `advance`. */
export interface AdvanceOptions extends ChangeOptions {
  /** Percent of the keys, in hundredths at finest, that are to be published to the new broker. */
  readonly share?: number;
  /** What is lost and may be, by name; and `parity`, to go on without its proof. */
  readonly accept?: readonly (DifferenceName | "parity")[];
}

/** The options of `rollback`. */
export interface RollbackOptions extends ChangeOptions {
  /** The step to go back to. Default: one step, or what is announced. */
  readonly to?: MigrationStep;
  /** Percent of the keys that stay on the new broker, of a migration that is `publishing` afterwards. */
  readonly share?: number;
  /**
   * `order`: keys go back without waiting for what they have on the new broker, for when it is out of reach. What stands
   * there is handled later, out of its order.
   */
  readonly accept?: readonly "order"[];
}

/** What `advance` and `rollback` are at. */
export type MigrationProgress =
  /** Waits until these instances have taken over a change, or their leases are over. */
  | { readonly waitingFor: "instances"; readonly instances: readonly string[] }
  /** Waits until nothing stands here any more. */
  | { readonly waitingFor: "empty"; readonly source: string; readonly remaining: number }
  /** Moves what nobody handles. */
  | { readonly waitingFor: "bridge"; readonly bridge: BridgeStatus };

/** How far a migration is. */
export interface MigrationStatus {
  readonly name: string;
  /** Counted up with every change. */
  readonly revision: number;
  readonly step: MigrationStep;
  /** Percent of the keys that are published to the new broker. */
  readonly share: number;
  /** What is announced, and not yet in force. */
  readonly pending: PendingChange | undefined;
  /** What is lost and was accepted. */
  readonly accepted: readonly string[];
  readonly instances: readonly InstanceStatus[];
  /** The last changes, oldest first. */
  readonly history: readonly HistoryEntry[];
}

/** A change on its way. */
export interface PendingChange {
  readonly step: MigrationStep;
  readonly share: number;
  /** ISO time. */
  readonly since: string;
  readonly by: string | undefined;
  /** The instances that have not taken it over. */
  readonly waitingFor: readonly string[];
}

/** One instance of a service. */
export interface InstanceStatus {
  readonly instance: string;
  /** Whether it acts by the present state. */
  readonly upToDate: boolean;
  /** Why it cannot follow. */
  readonly problem: string | undefined;
  /** How long its lease goes on unless it is renewed. */
  readonly remainingMs: number;
}

/** One change of the past. */
export interface HistoryEntry {
  /** ISO time. */
  readonly at: string;
  readonly by: string | undefined;
  readonly what: "announced" | "in-force" | "taken-back";
  readonly step: MigrationStep;
  readonly share: number;
}

/** What may differ between two brokers: a capability, or a limit. */
export type DifferenceName = CapabilityName | "maxMessageBytes" | "maxHeaders" | "maxHeaderBytes" | "priorityLevels";

/** What is compared: an adapter that need not be open, or what is known of one. */
export type Comparable = Pick<Adapter, "name" | "capabilities">;

/** One thing that the two brokers do not have alike. */
export interface Difference {
  readonly name: DifferenceName;
  /** What the old broker has: for a limit, the limit. */
  readonly from: Support | number;
  /** What the new broker has. */
  readonly to: Support | number;
  /**
   * - `lost`: the new broker cannot do it, or takes less. It has to be accepted by name before a migration begins.
   * - `emulated`: the old broker does it itself, and on the new one anybroker does it on top.
   * - `gained`: only the new broker can do it, or it takes more.
   */
  readonly kind: "lost" | "emulated" | "gained";
  /** The destinations that ask for it, as in `queue "orders"`. They are declared without it on the new broker once it is accepted. */
  readonly askedBy: readonly string[];
  /** How the new broker does it, or what to do instead. */
  readonly note: string;
}

/** What two brokers do not have alike, in the order of the tables of capabilities. */
export interface Comparison {
  /** The names of the brokers, as in `rabbitmq`. */
  readonly from: string;
  readonly to: string;
  readonly differences: readonly Difference[];
  /** Those of kind `lost`: what a migration has to accept. */
  readonly lost: readonly DifferenceName[];
}

/** The options of `report`. */
export interface ReportOptions {
  /** The most ids shown for each kind of difference of each source. Default 100. */
  readonly limit?: number;
  /** Whether to look at the dead letters of both brokers, so that what stands there is not missing. Default true. */
  readonly deadLetters?: boolean;
}

/** Whether every id that went in was handled. */
export interface ParityReport {
  readonly name: string;
  /** ISO time, the store's. */
  readonly at: string;
  /**
   * - `equal`: what was published was handled or stands in the dead letters, of every source.
   * - `different`: something is missing; look again while messages are still on their way.
   * - `waived`: ids are not journaled.
   */
  readonly verdict: "equal" | "different" | "waived";
  readonly sources: readonly SourceParity[];
}

/** The parity of one queue or subscription. */
export interface SourceParity {
  /** The queue's name, or `topic..subscription`. */
  readonly source: string;
  /** Ids whose send was confirmed. */
  readonly published: number;
  /** Ids whose handler succeeded. */
  readonly handled: number;
  /** Ids that were published, and neither handled nor found in the dead letters. */
  readonly missing: Ids;
  /** Ids that stand in the dead letters. */
  readonly dead: Ids;
  /**
   * Ids that were handled, and not published as far as the journal knows: from before the migration, of other publishers, or
   * of a publisher that died before it could tell its caller. No loss.
   */
  readonly unexpected: Ids;
  /** How much stands on both brokers, unsettled included; undefined where it could not be asked. */
  readonly remaining: { readonly from: number | undefined; readonly to: number | undefined };
}

/** How many, and which: the first of them by their characters, up to the limit. */
export interface Ids {
  readonly count: number;
  readonly ids: readonly string[];
}
