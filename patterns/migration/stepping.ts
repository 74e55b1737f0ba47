import { pause } from "../../core/clock.ts";
import type { Broker, Clock } from "../../core/index.ts";
import type { Announcement, Changes, Patience, Read } from "./changes.ts";
import { Leftovers } from "./leftovers.ts";
import type { ParityReport } from "./parity.ts";
import type { Plan } from "./plan.ts";
import type { MigrationState, Side } from "./state.ts";

/** How long a side is left alone when nobody asks again. */
const QUIET_MS = 10_000;

/** What a step is made with. */
export interface SteppingParts {
  readonly plan: Plan;
  readonly changes: Changes;
  readonly clock: Clock;
  readonly patience: Patience;
  readonly emptyForMs: number;
  readonly rate: number | undefined;
  readonly by: string | undefined;
  /** The broker object of a side, started. */
  readonly broker: (side: Side, what: string) => Promise<Broker>;
  readonly report: () => Promise<ParityReport>;
}

/** What the steps have in common. */
export class Stepping {
  readonly plan: Plan;
  readonly changes: Changes;
  readonly patience: Patience;
  readonly broker: SteppingParts["broker"];
  readonly report: SteppingParts["report"];
  readonly #parts: SteppingParts;

  constructor(parts: SteppingParts) {
    this.#parts = parts;
    this.plan = parts.plan;
    this.changes = parts.changes;
    this.patience = parts.patience;
    this.broker = parts.broker;
    this.report = parts.report;
  }

  leftovers(): Leftovers {
    return new Leftovers(this.#parts);
  }

  /** Announces a change, and waits until it is in force. */
  async change(read: Read, announcement: Announcement, state: MigrationState = read.state): Promise<void> {
    const { by } = this.#parts;
    const who = by === undefined ? {} : { by };
    await this.changes.announce(read, { ...announcement, ...who }, { ...state, quiet: null, moved: null });
    await this.changes.settled(announcement, this.patience);
  }

  /**
   * Waits while no new markers are sent to a side, so that it comes to rest; what waits for one goes on waiting meanwhile.
   * The change that follows ends it.
   */
  async quietly(side: Side, wait: () => Promise<void>): Promise<void> {
    const over = new AbortController();
    const { clock } = this.#parts;
    const quiet = (): Promise<void> =>
      this.changes.amend((state, now) => ({ ...state, quiet: { side, until: now + QUIET_MS } }));
    const renewing = (async () => {
      while (!over.signal.aborted) {
        await pause(clock, QUIET_MS / 2, over.signal);
        if (!over.signal.aborted) await quiet().catch(() => undefined);
      }
    })();
    try {
      await quiet();
      await wait();
    } catch (error) {
      over.abort();
      await renewing;
      await this.changes.amend((state) => ({ ...state, quiet: null }));
      throw error;
    } finally {
      over.abort();
      await renewing;
    }
  }
}
