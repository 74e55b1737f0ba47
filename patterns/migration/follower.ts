import type { Clock, Timer } from "../../core/clock.ts";
import { MessagingError } from "../../core/errors.ts";
import { thrownText } from "../../core/foreign.ts";
import { ask } from "../../core/stores.ts";
import { inForce, type MigrationState, refuseOtherDestinations, type Side, stateIn } from "./state.ts";
import type { MigrationStore, StoredMigration } from "./store.ts";

/** The part of its lease in which an instance may start to publish, and the part that a send may take. The rest allows for clock drift. */
const FRESH = 0.45;
const SEND = 0.5;
/** How much faster the state is polled during a change. */
const FAST_POLL_FACTOR = 5;
const LONGEST_PROBLEM = 1024;

/** The parts of {@link Follower}. */
interface FollowerParts {
  readonly store: MigrationStore;
  readonly migration: string;
  readonly instance: string;
  readonly destinations: readonly string[];
  readonly leaseMs: number;
  readonly pollMs: number;
  readonly clock: Clock;
  /** Acts by the state at once. Resolves when nothing that follows an older state is in progress. */
  readonly takeOver: (state: MigrationState, revision: number) => Promise<void>;
  /** The report of this instance. */
  readonly report: (problem: string | undefined) => string;
  readonly stale: (error: unknown) => void;
  readonly fresh: () => void;
  readonly stuck: (error: unknown) => void;
}

/** One instance's part in the agreement: renews its lease with the revision it acts by, and takes over new states. */
export class Follower {
  readonly #parts: FollowerParts;
  #state: MigrationState | undefined;
  #revision = -1;
  #acting = -1;
  #readAt = Number.NEGATIVE_INFINITY;
  /** The store's time at the last reading. */
  #storeTime = 0;
  #isStale = false;
  #problem: string | undefined;
  #timer: Timer | undefined;
  #beating: Promise<void> = Promise.resolve();
  #following: Promise<void> = Promise.resolve();
  /** The revision that is or was last taken over. */
  #followed = -1;
  #retryAt = 0;
  #running = false;

  constructor(parts: FollowerParts) {
    this.#parts = parts;
  }

  /** The last state that this instance read. */
  get state(): MigrationState | undefined {
    return this.#state;
  }

  /** Whether a side drains. */
  isDraining(side: Side): boolean {
    const draining = this.#state?.draining ?? null;
    const sinceRead = this.#parts.clock.monotonic() - this.#readAt;
    return draining !== null && draining.side === side && draining.until > this.#storeTime + sinceRead;
  }

  /** Whether the last reading is recent enough to publish. */
  get isFresh(): boolean {
    const { clock, leaseMs } = this.#parts;
    return clock.monotonic() - this.#readAt < leaseMs * FRESH;
  }

  /** Returns a function that tells whether a reading began after this call. */
  readingFromNow(): () => boolean {
    const now = this.#parts.clock.monotonic();
    return () => this.#readAt >= now;
  }

  /** The longest that a send may take, in milliseconds: it ends before this instance's lease. */
  get longestSendMs(): number {
    return Math.floor(this.#parts.leaseMs * SEND);
  }

  /** Joins, reads the state, and takes it over. Rejects as the store and as taking over do. */
  async start(): Promise<void> {
    this.#running = true;
    this.#revision = -1;
    this.#acting = -1;
    this.#followed = -1;
    try {
      await this.#beat();
      // The lease is renewed while brokers connect.
      this.#later();
      await this.#following;
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  /** Stops following, and gives up the lease. */
  async stop(): Promise<void> {
    this.#running = false;
    if (this.#timer !== undefined) this.#parts.clock.cancel(this.#timer);
    this.#timer = undefined;
    await this.#beating.catch(() => undefined);
    await this.#following.catch(() => undefined);
    const { store, migration, instance } = this.#parts;
    await this.#ask(() => store.leave(migration, instance)).catch(() => undefined);
    this.#readAt = Number.NEGATIVE_INFINITY;
  }

  #later(): void {
    const hurry = this.#state?.pending != null || this.#acting !== this.#revision;
    this.#beatIn(hurry ? this.#parts.pollMs / FAST_POLL_FACTOR : this.#parts.pollMs);
  }

  /** Reports at once, since others wait for it. */
  #beatNow(): void {
    if (this.#timer === undefined) return;
    this.#parts.clock.cancel(this.#timer);
    this.#timer = undefined;
    this.#beatIn(0);
  }

  #beatIn(ms: number): void {
    if (!this.#running || this.#timer !== undefined) return;
    this.#timer = this.#parts.clock.schedule(() => {
      this.#timer = undefined;
      this.#beating = this.#beat()
        .catch((error: unknown) => this.#failed(error))
        .then(() => this.#later());
    }, ms);
  }

  #failed(error: unknown): void {
    if (this.isFresh || this.#isStale) return;
    this.#isStale = true;
    this.#parts.stale(error);
  }

  async #beat(): Promise<void> {
    const { clock, store, migration, instance, leaseMs, report } = this.#parts;
    const begun = clock.monotonic();
    const beat = { instance, acting: this.#acting, leaseMs, report: report(this.#problem) };
    const stored = await this.#ask(() => store.beat(migration, beat));
    if (!this.#running) return;
    if (stored.revision < this.#revision) throw wentBack(migration, stored.revision, this.#revision);
    const state = this.#read(stored);
    this.#readAt = begun;
    this.#storeTime = stored.now;
    if (this.#isStale && this.isFresh) {
      this.#isStale = false;
      this.#parts.fresh();
    }
    if (stored.revision > this.#revision) {
      this.#state = state;
      this.#revision = stored.revision;
    }
    if (this.#acting !== this.#revision && this.#followed !== this.#revision && clock.monotonic() >= this.#retryAt) {
      this.#followed = this.#revision;
      this.#following = this.#follow(state, this.#revision);
      this.#following.catch(() => undefined);
    }
    await this.#putInForce(state, stored);
  }

  #read(stored: StoredMigration): MigrationState {
    const { destinations } = this.#parts;
    try {
      const state = stateIn(stored, destinations);
      if (state.step !== "new" || state.pending !== null) refuseOtherDestinations(state, destinations);
      return state;
    } catch (error) {
      this.#problem = textOf(error);
      this.#parts.stuck(error);
      throw error;
    }
  }

  /** Takes a state over while beats go on. A newer revision does not wait for an older one. */
  async #follow(state: MigrationState, revision: number): Promise<void> {
    try {
      await this.#parts.takeOver(state, revision);
      this.#acting = Math.max(this.#acting, revision);
      this.#problem = undefined;
      this.#beatNow();
    } catch (error) {
      // Later: an unreachable broker is not called at every beat.
      if (this.#followed === revision) {
        this.#followed = -1;
        this.#retryAt = this.#parts.clock.monotonic() + this.#parts.pollMs;
      }
      this.#problem = textOf(error);
      this.#parts.stuck(error);
      throw error;
    }
  }

  /** Any instance puts a change in force that all have taken over. No one waits for the process that announced it. */
  async #putInForce(state: MigrationState, stored: StoredMigration): Promise<void> {
    const { store, migration } = this.#parts;
    const next = settledChange(state, stored);
    if (next !== undefined) await this.#ask(() => store.change(migration, stored.revision, JSON.stringify(next)));
  }

  async #ask<Result>(call: () => Promise<Result>): Promise<Result> {
    const { clock, leaseMs } = this.#parts;
    const answer = await ask("migration state store", clock, Math.ceil(leaseMs / 6), call);
    if ("value" in answer) return answer.value;
    throw answer.error;
  }
}

/** The state with the announced change in force, if every live instance has taken it over. */
export function settledChange(state: MigrationState, stored: StoredMigration): MigrationState | undefined {
  const { pending } = state;
  if (pending === null || stored.instances.some(({ acting }) => acting < pending.revision)) return undefined;
  return inForce(state, new Date(stored.now).toISOString());
}

function textOf(error: unknown): string {
  const text = thrownText(error);
  return text.slice(0, LONGEST_PROBLEM);
}

/** Somebody deleted the state, or replaced it by an older one. To follow it could send to the other broker again. */
function wentBack(migration: string, found: number, known: number): MessagingError {
  const what = `the state of migration "${migration}" has revision ${found}, and this instance has seen ${known}`;
  return new MessagingError("conflict", `${what}: it was deleted, or replaced by an older one; restore it from a copy`);
}
