import { type Clock, pause } from "../../core/clock.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import type { MigrationProgress } from "./contract.ts";
import { settledChange } from "./follower.ts";
import { type Announced, type MigrationState, shareOf, stateIn, withHistory } from "./state.ts";
import type { MigrationStore, StoredMigration } from "./store.ts";

const POLL_MS = 100;

/** How long a call waits, and where it reports progress. */
export interface Patience {
  /** In milliseconds. */
  readonly forMs: number;
  readonly until: number;
  readonly signal: AbortSignal | undefined;
  readonly onProgress: (progress: MigrationProgress) => void;
}

/** A change to announce. */
export type Announcement = Pick<Announced, "step" | "share"> & Partial<Pick<Announced, "by" | "drained">>;

/** The stored state. */
export interface Read {
  readonly stored: StoredMigration;
  readonly state: MigrationState;
}

/** Changes the stored state; concurrent changes conflict. */
export class Changes {
  readonly #store: MigrationStore;
  readonly #name: string;
  readonly #described: readonly string[];
  readonly #clock: Clock;

  constructor(store: MigrationStore, name: string, described: readonly string[], clock: Clock) {
    this.#store = store;
    this.#name = name;
    this.#described = described;
    this.#clock = clock;
  }

  async read(): Promise<Read> {
    const stored = await this.#store.read(this.#name);
    return { stored, state: stateIn(stored, this.#described) };
  }

  /** Writes a state. Rejects with `conflict` if the stored state has changed since `read`. */
  async write({ stored }: Read, state: MigrationState): Promise<void> {
    const written = await this.#store.change(this.#name, stored.revision, JSON.stringify(state));
    if (written === "changed") return;
    throw new MessagingError(
      "conflict",
      `another process changed migration "${this.#name}" at the same time; check its status and try again`,
    );
  }

  /** Announces a change, together with other changes of the state. */
  async announce(read: Read, { step, share, by, drained }: Announcement, state: MigrationState): Promise<void> {
    const since = new Date(read.stored.now).toISOString();
    const who = by === undefined ? {} : { by };
    const pending: Announced = {
      step,
      share,
      revision: read.stored.revision + 1,
      since,
      ...who,
      ...(drained === undefined ? {} : { drained }),
    };
    await this.write(read, withHistory({ ...state, pending }, { at: since, by, what: "announced", step, share }));
  }

  /** Takes back the announced change. */
  async takeBack(read: Read, by: string | undefined): Promise<void> {
    const { state, stored } = read;
    if (state.pending === null) return;
    const { step, share } = state.pending;
    const at = new Date(stored.now).toISOString();
    await this.write(
      read,
      withHistory(
        { ...state, pending: null, draining: null, moved: null },
        { at, by, what: "taken-back", step, share },
      ),
    );
  }

  /**
   * Waits until the announced change is in force, and puts it in force when all instances have taken it over. Rejects with
   * `timeout`, with `conflict` if it was taken back, or with the signal's reason.
   */
  async settled({ step, share }: Announcement, patience: Patience): Promise<void> {
    for (;;) {
      const read = await this.read();
      const { state, stored } = read;
      if (state.pending === null) {
        if (state.step === step && shareOf(state) === share) return;
        throw new MessagingError("conflict", `the change to "${step}" was taken back, or replaced by another change`);
      }
      const next = settledChange(state, stored);
      if (next !== undefined) {
        await this.write(read, next).catch(ignoreConflict);
        continue;
      }
      const instances = waitingFor(read);
      patience.onProgress({ waitingFor: "instances", instances });
      const what = `waiting for ${instances.join(", ")} to take over "${step}"; it stays announced: advance again, or roll back`;
      await this.wait(patience, what);
    }
  }

  /** Amends the state, and tries again after a conflict. */
  async amend(make: (state: MigrationState, now: number) => MigrationState): Promise<void> {
    for (;;) {
      const read = await this.read();
      try {
        await this.write(read, make(read.state, read.stored.now));
        return;
      } catch (error) {
        ignoreConflict(error);
      }
    }
  }

  /** Waits `ms` milliseconds. Rejects with `timeout` if the time is over. */
  async wait({ until, signal }: Patience, what: string, ms: number = POLL_MS): Promise<void> {
    signal?.throwIfAborted();
    const left = until - this.#clock.monotonic();
    if (left <= 0)
      throw new MessagingError(
        "timeout",
        `migration "${this.#name}": the time (patienceMs, --patience) ended while ${what}`,
      );
    await pause(this.#clock, Math.min(ms, left), signal);
    signal?.throwIfAborted();
  }
}

/** The instances that have not taken over what is announced. */
export function waitingFor({ state, stored }: Read): readonly string[] {
  const { pending } = state;
  if (pending === null) return [];
  return stored.instances.filter(({ acting }) => acting < pending.revision).map(({ instance }) => instance);
}

function ignoreConflict(error: unknown): void {
  if (!isMessagingError(error, "conflict")) throw error;
}
