import { MessagingError } from "../../core/errors.ts";
import { hasBucket } from "./buckets.ts";
import type { HistoryEntry } from "./contract.ts";
import { MIGRATION_STEPS, type MigrationStep } from "./steps.ts";
import type { StoredMigration } from "./store.ts";

/** One of the two brokers. */
export type Side = "from" | "to";

/** What is announced. */
export interface Announced {
  readonly step: MigrationStep;
  readonly share: number;
  /** The revision that announced it: an instance that acts by it, or by a later one, has taken it over. */
  readonly revision: number;
  readonly since: string;
  readonly by?: string;
  /** BrokerPair of which every key is done once this is in force. */
  readonly drained?: readonly Side[];
}

/** What all instances and operators agree on. */
export interface MigrationState {
  readonly format: 1;
  /** What moves, so that processes with another list are told apart. */
  readonly destinations: readonly string[];
  readonly step: MigrationStep;
  /**
   * The share of each epoch; the last one is in force. An epoch begins with each change of the share: no instance publishes
   * by an earlier one from then on.
   */
  readonly shares: readonly number[];
  /** Everything that was published to a side in epochs before these is done, whatever its key. */
  readonly drained: Readonly<Record<Side, number>>;
  readonly accepted: readonly string[];
  /** Order was given up for those that go back with this epoch, and with those before. */
  readonly unordered: number;
  /**
   * The side that drains: no new barriers are sent there, and what waits for one goes on waiting. Over by itself, at a
   * time of the store's clock, should whoever asked for it be gone.
   */
  readonly quiet: { readonly side: Side; readonly until: number } | null;
  readonly pending: Announced | null;
  /**
   * The sources of a side that were moved already on the way to the next change, so that an operator who broke off, or lost
   * patience, does not begin anew. Forgotten with the next change.
   */
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
    quiet: null,
    pending: null,
    moved: null,
    history: [],
  };
}

/** The state in a store. Throws `conflict` for one of another format, and for what is no state. */
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
    throw new MessagingError("conflict", "the migration's state was written by another version; use that one");
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
    "the migration's state in the state store is not what was written there: something else changed it. Restore it; until then no step is taken",
  );
}

/** Throws `conflict` if another list of destinations is agreed on. */
export function refuseOthers(state: MigrationState, destinations: readonly string[]): void {
  const missing = state.destinations.filter((each) => !destinations.includes(each));
  const more = destinations.filter((each) => !state.destinations.includes(each));
  if (missing.length === 0 && more.length === 0) return;
  const parts = [
    ...(missing.length === 0 ? [] : [`it lacks ${missing.join(", ")}`]),
    ...(more.length === 0 ? [] : [`${more.join(", ")} came later`]),
  ];
  throw new MessagingError(
    "conflict",
    `the migration was begun with other destinations: ${parts.join("; ")}. Give every process the same list, or roll back to "new" and begin again`,
  );
}

export function epochOf({ shares }: MigrationState): number {
  return shares.length - 1;
}

/** An epoch as it is written on messages; undefined for what nobody here wrote. A state store keeps 32 bits of it. */
export function epochIn(text: string): number | undefined {
  return /^\d{1,9}$/.test(text) ? Number(text) : undefined;
}

export function shareOf({ shares }: MigrationState): number {
  return shares.at(-1) ?? 0;
}

/** Where a bucket is published to in an epoch. */
export function sideAt(shares: readonly number[], epoch: number, bucket: number): Side {
  return hasBucket(shares[Math.min(epoch, shares.length - 1)] ?? 0, bucket) ? "to" : "from";
}

/**
 * The epoch with which a bucket came to the side where it is in `epoch`: what it had on the other side is older. 0 if it
 * never was on the other one.
 */
export function cameWith(shares: readonly number[], epoch: number, bucket: number): number {
  let at = Math.min(epoch, shares.length - 1);
  const side = sideAt(shares, at, bucket);
  while (at > 0 && sideAt(shares, at - 1, bucket) === side) at--;
  return at;
}

/** The brokers that are used in a step. */
export function usedBrokers(step: MigrationStep): readonly Side[] {
  if (step === "new" || step === "prepared") return ["from"];
  return step === "retired" ? ["to"] : ["from", "to"];
}

/**
 * Whether what is published is noted: before everybody consumes through the migration, nobody notes what was handled. From
 * the announcement on, so that once `consuming` is in force no instance has yet to hear of it.
 */
export function isJournaled({ step, pending }: MigrationState): boolean {
  return [step, pending?.step ?? step].some((one) => usedBrokers(one).includes("to"));
}

/** With an entry more, and the oldest ones forgotten. */
export function withHistory(state: MigrationState, entry: HistoryEntry): MigrationState {
  return { ...state, history: [...state.history, entry].slice(-LONGEST_HISTORY) };
}

/** What is announced, put in force. */
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
