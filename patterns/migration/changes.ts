import { type Clock, pause } from "../../core/clock.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import type { MigrationProgress } from "./contract.ts";
import { settledChange } from "./follower.ts";
import { type Announced, type MigrationState, shareOf, stateIn, withHistory } from "./state.ts";
import type { MigrationStore, StoredMigration } from "./store.ts";

const LOOK_EVERY_MS = 100;

/** How long somebody waits, and whom they tell. */
export interface Patience {
  readonly until: number;
  readonly signal: AbortSignal | undefined;
  readonly tell: (progress: MigrationProgress) => void;
}

/** What is to be announced. */
export type Announcement = Pick<Announced, "step" | "share"> & Partial<Pick<Announced, "by" | "drained">>;

/** What stands in the store, read. */
export interface Read {
  readonly stored: StoredMigration;
  readonly state: MigrationState;
}

/** Changes of the state, one at a time whoever makes them. */
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

  /** Writes what is made of the state. Rejects with `conflict` if somebody else was faster. */
  async write({ stored }: Read, state: MigrationState): Promise<void> {
    const written = await this.#store.change(this.#name, stored.revision, JSON.stringify(state));
    if (written === "changed") return;
    throw new MessagingError(
      "conflict",
      `somebody else changed migration "${this.#name}" at the same time; look again`,
    );
  }

  /** Announces a change, on top of what else is made of the state in the same step. */
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

  /** Takes back what is announced. */
  async takeBack(read: Read, by: string | undefined): Promise<void> {
    const { state, stored } = read;
    if (state.pending === null) return;
    const { step, share } = state.pending;
    const at = new Date(stored.now).toISOString();
    await this.write(
      read,
      withHistory({ ...state, pending: null, quiet: null, moved: null }, { at, by, what: "taken-back", step, share }),
    );
  }

  /**
   * Waits until nothing is announced, and puts it in force if nobody else does. Rejects with `timeout`, `conflict` if it was
   * taken back, or the signal's reason.
   */
  async settled({ step, share }: Announcement, patience: Patience): Promise<void> {
    for (;;) {
      const read = await this.read();
      const { state, stored } = read;
      if (state.pending === null) {
        if (state.step === step && shareOf(state) === share) return;
        throw new MessagingError("conflict", `the change to "${step}" was taken back, or followed by another`);
      }
      const next = settledChange(state, stored);
      if (next !== undefined) {
        await this.write(read, next).catch(ignoreConflict);
        continue;
      }
      const instances = waitingFor(read);
      patience.tell({ waitingFor: "instances", instances });
      const what = `waiting for ${instances.join(", ")} to take over "${step}"; it stays announced: advance again, or roll back`;
      await this.wait(patience, what);
    }
  }

  /** Changes something small, whatever else changes at the same time. */
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

  /** A little while. Rejects with `timeout` when patience is over. */
  async wait({ until, signal }: Patience, what: string, ms: number = LOOK_EVERY_MS): Promise<void> {
    signal?.throwIfAborted();
    const left = until - this.#clock.monotonic();
    if (left <= 0)
      throw new MessagingError("timeout", `migration "${this.#name}": patience (patienceMs, --patience) ended ${what}`);
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
