import type { Broker, Clock } from "../../core/index.ts";
import type { Announcement, Changes, Patience, Read } from "./changes.ts";
import { Leftovers } from "./leftovers.ts";
import type { ParityReport } from "./parity.ts";
import type { Plan } from "./plan.ts";
import type { MigrationState, Side } from "./state.ts";

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
    await this.changes.announce(read, { ...announcement, ...(by === undefined ? {} : { by }) }, state);
    await this.changes.settled(announcement, this.patience);
  }

  /** While no new markers are sent, so that a broker comes to rest; what waits for one goes on waiting meanwhile. */
  async quietly(run: () => Promise<void>): Promise<void> {
    await this.changes.amend((state) => ({ ...state, quiet: true }));
    try {
      await run();
    } finally {
      await this.changes.amend((state) => ({ ...state, quiet: false }));
    }
  }
}
