import type { Clock, Timer } from "../../core/clock.ts";
import { thrownText } from "../../core/foreign.ts";
import { ask } from "../../core/stores.ts";
import { inForce, type MigrationState, refuseOthers, type Side, stateIn } from "./state.ts";
import type { MigrationStore, StoredMigration } from "./store.ts";

/** After so much of its lease an instance publishes nothing more; a send may take so much of it. The rest is for clocks that differ. */
const FRESH = 0.45;
const SEND = 0.5;
/** How much sooner the state is looked at while a change is on its way. */
const HASTE = 5;
const LONGEST_PROBLEM = 1024;

/** What a follower follows, and whom it tells. */
interface FollowerParts {
  readonly store: MigrationStore;
  readonly migration: string;
  readonly instance: string;
  readonly destinations: readonly string[];
  readonly leaseMs: number;
  readonly pollMs: number;
  readonly clock: Clock;
  /** Takes a state over. It acts by it at once, and resolves when nothing that goes by an older one is under way. */
  readonly takeOver: (state: MigrationState, revision: number) => Promise<void>;
  /** What the instance says of itself. */
  readonly report: (problem: string | undefined) => string;
  readonly stale: (error: unknown) => void;
  readonly fresh: () => void;
  readonly stuck: (error: unknown) => void;
}

/** One instance's part in the agreement: says that it lives and what it acts by, and follows what is agreed on. */
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
  /** The revision that is being taken over, or was last. */
  #followed = -1;
  #againAt = 0;
  #running = false;

  constructor(parts: FollowerParts) {
    this.#parts = parts;
  }

  /** What is agreed on, as far as this instance has read. */
  get state(): MigrationState | undefined {
    return this.#state;
  }

  /** Whether a side is to come to rest. */
  isQuiet(side: Side): boolean {
    const quiet = this.#state?.quiet ?? null;
    const sinceRead = this.#parts.clock.monotonic() - this.#readAt;
    return quiet !== null && quiet.side === side && quiet.until > this.#storeTime + sinceRead;
  }

  /** Whether what was read is young enough to publish by. */
  get isFresh(): boolean {
    const { clock, leaseMs } = this.#parts;
    return clock.monotonic() - this.#readAt < leaseMs * FRESH;
  }

  /** The result tells whether the state was read, all of it from now on. */
  readingFromNow(): () => boolean {
    const now = this.#parts.clock.monotonic();
    return () => this.#readAt >= now;
  }

  /** The longest that a send may take, in milliseconds, so that it is over when others take this instance for dead. */
  get longestSendMs(): number {
    return Math.floor(this.#parts.leaseMs * SEND);
  }

  /** Joins, reads, and takes over what is agreed on. Rejects as the store does, and as taking over does. */
  async start(): Promise<void> {
    this.#running = true;
    this.#revision = -1;
    this.#acting = -1;
    this.#followed = -1;
    try {
      await this.#beat();
      // Beats go on while brokers are connected.
      this.#later();
      await this.#following;
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  /** Follows no more, and leaves. */
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
    this.#beatIn(hurry ? this.#parts.pollMs / HASTE : this.#parts.pollMs);
  }

  /** The others wait for what it acts by: it says so at once. */
  #afterCurrentTurn(): void {
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
    // A slow answer may come after a later one.
    if (stored.revision < this.#revision || !this.#running) return;
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
    if (this.#acting !== this.#revision && this.#followed !== this.#revision && clock.monotonic() >= this.#againAt) {
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
      if (state.step !== "new" || state.pending !== null) refuseOthers(state, destinations);
      return state;
    } catch (error) {
      this.#problem = textOf(error);
      this.#parts.stuck(error);
      throw error;
    }
  }

  /** Takes over beside the beats. A newer revision does not wait for an older one that takes its time. */
  async #follow(state: MigrationState, revision: number): Promise<void> {
    try {
      await this.#parts.takeOver(state, revision);
      this.#acting = Math.max(this.#acting, revision);
      this.#problem = undefined;
      this.#afterCurrentTurn();
    } catch (error) {
      // Tried again after a while: a broker that is away is not to be called in every beat.
      if (this.#followed === revision) {
        this.#followed = -1;
        this.#againAt = this.#parts.clock.monotonic() + this.#parts.pollMs;
      }
      this.#problem = textOf(error);
      this.#parts.stuck(error);
      throw error;
    }
  }

  /** Whoever sees that all have taken a change over puts it in force: none has to wait for the one who asked for it. */
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

/** The state with what is announced in force, if every live instance has taken it over. */
export function settledChange(state: MigrationState, stored: StoredMigration): MigrationState | undefined {
  const { pending } = state;
  if (pending === null || stored.instances.some(({ acting }) => acting < pending.revision)) return undefined;
  return inForce(state, new Date(stored.now).toISOString());
}

function textOf(error: unknown): string {
  const text = thrownText(error);
  return text.slice(0, LONGEST_PROBLEM);
}
