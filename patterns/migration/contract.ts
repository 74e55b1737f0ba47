import type { Adapter } from "../../core/adapter.ts";
import type { Broker } from "../../core/broker.ts";
import type { CapabilityName, Support } from "../../core/capabilities.ts";
import type { Middleware } from "../../core/delivery.ts";
import type { Destination } from "../../core/destination.ts";
import type { BrokerOptions } from "../../core/options.ts";
import type { BridgeStatus } from "./bridge-ends.ts";
import type { MigrationStep } from "./steps.ts";
import type { MigrationStore } from "./store.ts";

/** What all processes of a migration configure alike. */
export interface MigrationPlan<Native = unknown> {
  /** The old broker's adapter. Do not use it elsewhere. */
  readonly from: Adapter<Native>;
  /** The new broker's adapter. Do not use it elsewhere. */
  readonly to: Adapter<Native>;
  /**
   * Everything that moves: queues, topics, and each subscription made by `subscription()`. Every process needs the same
   * list: a subscription that a process does not know would lose what another one publishes to the new broker.
   */
  readonly destinations: readonly Destination[];
  /** The state store. */
  readonly state: MigrationStore;
  /** Distinguishes migrations in one store: letters, digits, `.`, `-` and `_`. Default `migration`. */
  readonly name?: string;
}

/** The options of {@link migration}. */
export interface MigrationOptions<Native = unknown> extends MigrationPlan<Native> {
  /**
   * Middleware that handles each message once, such as `idempotent(store)` with a store that all instances share. A message
   * may arrive from both brokers: bridged, replayed or sent again. `"waived"` states that every handler tolerates that.
   */
  readonly idempotency: Middleware | "waived";
  /** The options of both broker objects, without destinations. */
  readonly broker?: Omit<BrokerOptions, "destinations">;
  /** The id of this instance, unique among running ones. Default: host, process and a random part. */
  readonly instance?: string;
  /**
   * The lease of this instance, in milliseconds. Without a reading of the state for almost half of it, the instance refuses
   * to publish. A change waits for the end of a crashed instance's lease. Default 30,000.
   */
  readonly leaseMs?: number;
  /** How often the state is read, in milliseconds; at most a sixth of `leaseMs`. Default 1,000. */
  readonly pollMs?: number;
  /**
   * Whether ids are journaled for the parity report: two small rows per message, written in batches. `"waived"` does without
   * the proof. Default `"ids"`.
   */
  readonly journal?: "ids" | "waived";
  /** The most sends that wait while their keys move. More fail with `overloaded`. Default 10,000. */
  readonly maxHeld?: number;
  /** Called with each event. What it throws is ignored. */
  readonly onMigrationEvent?: (event: MigrationEvent) => void;
}

/**
 * A broker object that moves from one broker to another while it is used. It differs from others as follows:
 *
 * - Destinations that are not in the list are refused with `invalid`, so that none stays behind.
 * - `send` and `publish` reject with `closed` while the state could not be read for almost half of the lease; the message
 *   was not sent. They may wait some seconds, within their `timeoutMs`, while their key moves.
 * - A consumer runs `concurrency` handlers over both brokers.
 * - `rewind` rejects with `conflict` while both brokers are used.
 */
export interface Migration<Native = unknown> extends Broker<Native> {
  /** Controls the migration over this broker object's connections. Usable while it is started. */
  readonly control: MigrationControl;
}

/** An event of one instance. Without bodies, headers and credentials. */
export type MigrationEvent =
  /** A change is in force. */
  | { readonly type: "in-force"; readonly step: MigrationStep; readonly share: number; readonly revision: number }
  /** A change was announced, and this instance has taken it over. */
  | { readonly type: "taken-over"; readonly step: MigrationStep; readonly share: number; readonly revision: number }
  /** The state cannot be read. Nothing is published until it can. */
  | { readonly type: "stale"; readonly error: unknown }
  /** The state can be read again. */
  | { readonly type: "fresh" }
  /** A change cannot be taken over. The instance tries again. */
  | { readonly type: "stuck"; readonly error: unknown }
  /**
   * The store did not take marks of the journal in time. Until it does, the report may show them as differences. The
   * instance keeps up to 10,000 and tries again.
   */
  | { readonly type: "unrecorded"; readonly marks: number; readonly error: unknown };

/** The options of {@link migrationControl}. */
export interface MigrationControlOptions extends MigrationPlan {
  /** The options of both broker objects, without destinations. */
  readonly broker?: Omit<BrokerOptions, "destinations">;
}

/**
 * Controls a migration. Every method rejects as the state store does. Concurrent calls are safe: one of two changes wins, the
 * other rejects with `conflict`. The next `advance` continues an interrupted change, `rollback` takes it back. Until then
 * messages flow.
 */
export interface MigrationControl {
  readonly name: string;
  /** Compares the two brokers without connecting. */
  compare(): Comparison;
  /** Returns the state and the instances. Asks only the state store. */
  status(): Promise<MigrationStatus>;
  /**
   * Goes to the next step, or to a larger share. Resolves when every live instance has taken it over and it is in force.
   *
   * - `new` to `prepared`: rejects with `unsupported` for a loss that `accept` does not name.
   * - to `consuming`; to `publishing` with a `share`.
   * - to `bridged`: needs the share 100. Moves dead letters, and messages of unordered destinations, from the old broker.
   *   Waits until consumers have handled the ordered ones.
   * - to `proven`: waits until the old broker is empty and all ids that were missing at its start are handled. Rejects with
   *   `conflict` if ids are still missing when the time ends.
   * - to `retired`.
   */
  advance(options?: AdvanceOptions): Promise<MigrationStatus>;
  /**
   * Takes back an announced change. Otherwise goes one step back, or to a smaller share, or to the given step. To leave
   * `consuming` the new broker must be empty; unordered messages and dead letters are moved back.
   */
  rollback(options?: RollbackOptions): Promise<MigrationStatus>;
  /** Compares the published ids with the handled ones. */
  report(options?: ReportOptions): Promise<ParityReport>;
  /** Closes the connections that this object opened. A second call does nothing. */
  close(): Promise<void>;
}

interface ChangeOptions {
  /** Who does it, for the history. */
  readonly by?: string;
  /**
   * How long to wait for instances and for empty brokers, in milliseconds. Then it rejects with `timeout`, and an announced
   * change stays announced. At least 1.5 times `emptyForMs` on a broker that only estimates depths. Default 120,000.
   */
  readonly patienceMs?: number;
  /** Cancels the wait: rejects with the signal's reason. */
  readonly signal?: AbortSignal;
  /**
   * How long a queue must be empty on a broker that only estimates depths, such as SQS, in milliseconds. Default 10,000.
   */
  readonly emptyForMs?: number;
  /** The most messages per second that are moved. Default: no limit. */
  readonly rate?: number;
  /** Called while it waits or moves. What it throws is ignored. */
  readonly onProgress?: (progress: MigrationProgress) => void;
}

/** The options of `advance`. */
export interface AdvanceOptions extends ChangeOptions {
  /** Percent of the keys to publish to the new broker, in steps of 0.01. */
  readonly share?: number;
  /** The losses to accept, by name; and `parity`, to continue without the proof. */
  readonly accept?: readonly (DifferenceName | "parity")[];
}

/** The options of `rollback`. */
export interface RollbackOptions extends ChangeOptions {
  /** The step to go back to. Default: one step, or taking back the announced change. */
  readonly to?: MigrationStep;
  /** Percent of the keys that stay on the new broker, for a migration that stays `publishing`. */
  readonly share?: number;
  /**
   * `order`: keys go back without waiting for their messages on the new broker, for example if it is unreachable. Those
   * messages are handled later, out of order.
   */
  readonly accept?: readonly "order"[];
}

/** The progress of `advance` and `rollback`. */
export type MigrationProgress =
  /** Waits until these instances have taken over a change, or their leases end. */
  | { readonly waitingFor: "instances"; readonly instances: readonly string[] }
  /** Waits until this source is empty. */
  | { readonly waitingFor: "empty"; readonly source: string; readonly remaining: number }
  /** Moves messages. */
  | { readonly waitingFor: "bridge"; readonly bridge: BridgeStatus };

/** The state of a migration. */
export interface MigrationStatus {
  readonly name: string;
  /** Grows by one with every change. */
  readonly revision: number;
  readonly step: MigrationStep;
  /** Percent of the keys that are published to the new broker. */
  readonly share: number;
  /** The announced change that is not in force yet. */
  readonly pending: PendingChange | undefined;
  /** The accepted losses. */
  readonly accepted: readonly string[];
  readonly instances: readonly InstanceStatus[];
  /** The last changes, oldest first. */
  readonly history: readonly HistoryEntry[];
}

/** An announced change. */
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
  /** Whether it acts by the latest revision. */
  readonly upToDate: boolean;
  /** Why it cannot take over the state. */
  readonly problem: string | undefined;
  /** The rest of its lease. */
  readonly remainingMs: number;
}

/** A change in the history. */
export interface HistoryEntry {
  /** ISO time. */
  readonly at: string;
  readonly by: string | undefined;
  readonly what: "announced" | "in-force" | "taken-back";
  readonly step: MigrationStep;
  readonly share: number;
}

/** A capability or a limit that brokers may differ in. */
export type DifferenceName = CapabilityName | "maxMessageBytes" | "maxHeaders" | "maxHeaderBytes" | "priorityLevels";

/** An adapter, open or not, or its description. */
export type Comparable = Pick<Adapter, "name" | "capabilities">;

/** A difference between the two brokers. */
export interface Difference {
  readonly name: DifferenceName;
  /** The old broker's support, or its limit. */
  readonly from: Support | number;
  /** The new broker's support, or its limit. */
  readonly to: Support | number;
  /**
   * - `lost`: the new broker does not support it, or has a lower limit. It must be accepted by name before a migration.
   * - `emulated`: native on the old broker, emulated by anybroker on the new one.
   * - `gained`: only the new broker supports it, or its limit is higher.
   */
  readonly kind: "lost" | "emulated" | "gained";
  /** The destinations that use it, as in `queue "orders"`. After acceptance they are declared without it on the new broker. */
  readonly askedBy: readonly string[];
  /** How the new broker does it, or what to do instead. */
  readonly note: string;
}

/** The differences between two brokers, in the order of the capability tables. */
export interface Comparison {
  /** The names of the brokers, as in `rabbitmq`. */
  readonly from: string;
  readonly to: string;
  readonly differences: readonly Difference[];
  /** The differences of kind `lost`, which a migration must accept. */
  readonly lost: readonly DifferenceName[];
}

/** The options of `report`. */
export interface ReportOptions {
  /** The most ids per source and kind of difference. Default 100. */
  readonly limit?: number;
  /** Whether to read the dead letters of both brokers, so that they do not count as missing. Default true. */
  readonly deadLetters?: boolean;
}

/** Whether every published id was handled. */
export interface ParityReport {
  readonly name: string;
  /** ISO time of the store. */
  readonly at: string;
  /**
   * - `equal`: every published message was handled, or is in the dead letters.
   * - `different`: messages are missing. Repeat the report while messages are in flight.
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
  /** Ids that were published, and neither handled nor dead-lettered. */
  readonly missing: Ids;
  /** Ids in the dead letters. */
  readonly dead: Ids;
  /**
   * Ids that were handled without a `published` mark: published before the migration, by other publishers, or by a
   * publisher that crashed after the send. These are no losses.
   */
  readonly unexpected: Ids;
  /** Messages on each broker, in flight included; undefined if the broker could not be asked. */
  readonly remaining: { readonly from: number | undefined; readonly to: number | undefined };
}

/** The number of ids, and the first of them in character order, up to the limit. */
export interface Ids {
  readonly count: number;
  readonly ids: readonly string[];
}
