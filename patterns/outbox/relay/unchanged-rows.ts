import type { Clock, Random } from "../../../core/clock.ts";
import { backoffMs } from "../../../core/retry-policy.ts";
import type { OutboxRow, OutboxSettlement } from "../store.ts";

const BACKOFF = { firstMs: 1_000, maxMs: 60_000 };
/** Most of them are gone, and were settled by others. */
const MOST_KNOWN = 10_000;

interface Unchanged {
  readonly id: string;
  /** Whether the broker has it. */
  readonly sent: boolean;
  readonly failures: number;
  /** Until when it is let alone, by the monotonic clock. */
  readonly until: number;
}

/**
 * Rows whose settlement changed nothing. Most are no more ours, or gone. One that comes in a claim again stands there
 * although the store was told what became of it, as where a trigger keeps it from removing rows.
 */
export class UnchangedRows {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #rows = new Map<number, Unchanged>();

  constructor(clock: Clock, random: Random) {
    this.#clock = clock;
    this.#random = random;
  }

  /** The store was told, and changed the row or not. */
  settled({ position, outcome }: OutboxSettlement, id: string, changed: boolean): void {
    if (outcome === "released") return;
    const before = this.#known(position, id);
    this.#rows.delete(position);
    if (changed) return;
    const failures = before === undefined ? 1 : before.failures + 1;
    const sent = outcome === "sent" || before?.sent === true;
    // What was sent once can be quarantined at once.
    const waitMs = before === undefined && sent ? 0 : backoffMs(failures, BACKOFF, this.#random);
    this.#rows.set(position, { id, sent, failures, until: this.#clock.monotonic() + waitMs });
    if (this.#rows.size > MOST_KNOWN) for (const oldest of this.#rows.keys()) return void this.#rows.delete(oldest);
  }

  /** Whether a row that was claimed was sent before, and whether it is to be let alone; undefined if it is like any other. */
  look({ position, id }: OutboxRow): { readonly sent: boolean; readonly waits: boolean } | undefined {
    const known = this.#rows.size === 0 ? undefined : this.#known(position, id);
    if (known === undefined) return undefined;
    const waits = this.#clock.monotonic() < known.until;
    return waits || known.sent ? { sent: known.sent, waits } : undefined;
  }

  #known(position: number, id: string): Unchanged | undefined {
    const known = this.#rows.get(position);
    return known?.id === id ? known : undefined;
  }
}
