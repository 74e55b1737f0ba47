import { MessagingError } from "../../core/errors.ts";
import type { HistoryEntry } from "./contract.ts";
import { MIGRATION_STEPS, type MigrationStep } from "./steps.ts";
import type { StoredMigration } from "./store.ts";

/** One of the two brokers: `from` is the old one, `to` the new one. */
export type Side = "from" | "to";

/** An announced change. */
export interface Announced {
  readonly step: MigrationStep;
  readonly share: number;
  /** The revision of the announcement. An instance that acts by it, or by a later one, has taken it over. */
  readonly revision: number;
  readonly since: string;
  readonly by?: string;
  /** The sides whose keys are all drained once this is in force. */
  readonly drained?: readonly Side[];
}

/** The state that all instances and operators share. */
export interface MigrationState {
  readonly format: 1;
  /** The destinations, so that processes with another list are refused. */
  readonly destinations: readonly string[];
  readonly step: MigrationStep;
  /**
   * The share of each epoch; the last one is in force. Each change of the share begins an epoch. From then on no instance
   * publishes by an earlier one.
   */
  readonly shares: readonly number[];
  /** Everything that was published to a side in earlier epochs than this is handled. */
  readonly drained: Readonly<Record<Side, number>>;
  readonly accepted: readonly string[];
  /** Keys that go back in this epoch, or in earlier ones, do not keep their order. */
  readonly unordered: number;
  /**
   * The side that drains: no new barriers are sent there, and keys that wait for one keep waiting. Ends at a time of the
   * store's clock, in case the process that set it has crashed.
   */
  readonly draining: { readonly side: Side; readonly until: number } | null;
  readonly pending: Announced | null;
  /** The sources of a side that were moved already for the next change, so that a repeated call skips them. */
  readonly moved: { readonly side: Side; readonly sources: readonly string[] } | null;
  readonly history: readonly HistoryEntry[];
}

const LONGEST_HISTORY = 50;

function firstState(destinations: readonly string[]): MigrationState {
  return {
    format: 1,
    destinations,
    step: "new",
    shares: [0],
    drained: { from: 0, to: 0 },
    accepted: [],
    unordered: 0,
    draining: null,
    pending: null,
    moved: null,
    history: [],
  };
}

/** Parses the stored state. Throws `conflict` for another format, and for anything else. */
export function stateIn({ document }: StoredMigration, destinations: readonly string[]): MigrationState {
  if (document === undefined) return firstState(destinations);
  let state: Partial<MigrationState> | null;
  try {
    state = JSON.parse(document) as Partial<MigrationState> | null;
  } catch {
    state = null;
  }
  if (typeof state !== "object" || state === null || !("format" in state)) throw unreadable();
  if (state.format !== 1 || !MIGRATION_STEPS.includes(state.step as MigrationStep)) {
    throw new MessagingError(
      "conflict",
      "the migration's state was written by another version of anybroker; use that version",
    );
  }
  if (isState(state)) return state;
  throw unreadable();
}

function isState(state: Partial<MigrationState>): state is MigrationState {
  const { destinations, shares, accepted, history, drained } = state;
  return (
    [destinations, shares, accepted, history].every(Array.isArray) &&
    shares !== undefined &&
    shares.length > 0 &&
    shares.every(Number.isFinite) &&
    typeof drained === "object" &&
    drained !== null
  );
}

function unreadable(): MessagingError {
  return new MessagingError(
    "conflict",
    "the migration's state in the state store was changed by something else. Restore it; until then no step is possible",
  );
}

/** Throws `conflict` if the migration has other destinations. */
export function refuseOtherDestinations(state: MigrationState, destinations: readonly string[]): void {
  const missing = state.destinations.filter((each) => !destinations.includes(each));
  const more = destinations.filter((each) => !state.destinations.includes(each));
  if (missing.length === 0 && more.length === 0) return;
  const parts = [
    ...(missing.length === 0 ? [] : [`this process lacks ${missing.join(", ")}`]),
    ...(more.length === 0 ? [] : [`this process adds ${more.join(", ")}`]),
  ];
  throw new MessagingError(
    "conflict",
    `the migration began with other destinations: ${parts.join("; ")}. Use the same list in every process, or roll back to "new" and begin again`,
  );
}

export function epochOf({ shares }: MigrationState): number {
  return shares.length - 1;
}

/** Parses the epoch in a header; undefined if it is none. Stores keep 32 bits. */
export function epochIn(text: string): number | undefined {
  return /^\d{1,9}$/.test(text) ? Number(text) : undefined;
}

export function shareOf({ shares }: MigrationState): number {
  return shares.at(-1) ?? 0;
}

/** The side that a bucket is published to in an epoch. */
export function sideAt(shares: readonly number[], epoch: number, bucket: number): Side {
  return hasBucket(shares[Math.min(epoch, shares.length - 1)] ?? 0, bucket) ? "to" : "from";
}

/**
 * The epoch in which a bucket moved to its side of `epoch`: its messages on the other side are older. 0 if it was always on
 * this side.
 */
export function epochOfMove(shares: readonly number[], epoch: number, bucket: number): number {
  let at = Math.min(epoch, shares.length - 1);
  const side = sideAt(shares, at, bucket);
  while (at > 0 && sideAt(shares, at - 1, bucket) === side) at--;
  return at;
}

/** The brokers that a step uses. */
export function usedBrokers(step: MigrationStep): readonly Side[] {
  if (step === "new" || step === "prepared") return ["from"];
  return step === "retired" ? ["to"] : ["from", "to"];
}

/**
 * Whether publishes are journaled. Before all instances consume through the migration, not every handling is journaled. It
 * starts with the announcement, so that all instances know it when `consuming` is in force.
 */
export function isJournaled({ step, pending }: MigrationState): boolean {
  return [step, pending?.step ?? step].some((one) => usedBrokers(one).includes("to"));
}

/** Adds an entry to the history, and drops the oldest. */
export function withHistory(state: MigrationState, entry: HistoryEntry): MigrationState {
  return { ...state, history: [...state.history, entry].slice(-LONGEST_HISTORY) };
}

/** Puts the announced change in force. */
export function inForce(state: MigrationState, at: string): MigrationState {
  const { pending } = state;
  if (pending === null) return state;
  const { step, share, by, drained = [] } = pending;
  const shares = share === shareOf(state) ? state.shares : [...state.shares, share];
  const done = { ...state.drained };
  for (const side of drained) done[side] = shares.length - 1;
  const next: MigrationState = { ...state, step, shares, drained: done, pending: null };
  return withHistory(next, { at, by, what: "in-force", step, share });
}

/** The number of buckets that keys are divided into: each is 0.01 percent. */
export const BUCKETS = 10_000;

const OFFSET = 0x811c9dc5;

const PRIME = 0x01000193;

/**
 * Returns the bucket of a key: FNV-1a over its UTF-16 units with the finalizer of MurmurHash3. It must stay the same in every
 * version, since instances of different versions have to agree.
 */
export function bucketOf(key: string): number {
  let hash = OFFSET;
  for (let index = 0; index < key.length; index++) {
    const unit = key.charCodeAt(index);
    hash = Math.imul(hash ^ (unit & 0xff), PRIME);
    hash = Math.imul(hash ^ (unit >>> 8), PRIME);
  }
  hash ^= hash >>> 16;
  hash = Math.imul(hash, 0x85ebca6b);
  hash ^= hash >>> 13;
  hash = Math.imul(hash, 0xc2b2ae35);
  hash ^= hash >>> 16;
  return (hash >>> 0) % BUCKETS;
}

/** Whether a share, in percent, includes a bucket. */
export function hasBucket(share: number, bucket: number): boolean {
  return bucket < Math.round((share * BUCKETS) / 100);
}
