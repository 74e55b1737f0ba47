import type { Timer } from "../../../core/clock.ts";
import { afterCurrentTurn } from "../../../core/clock.ts";
import { backoffMs } from "../../../core/retry-policy.ts";
import type { RelaySettings } from "../relay-options.ts";
import type { OutboxSettlement } from "../store.ts";
import type { HeldClaim } from "./held-claim.ts";
import type { StoreCalls } from "./store-calls.ts";
import type { Turns, Waiter } from "./turns.ts";
import type { UnchangedRows } from "./unchanged-rows.ts";

const BACKOFF = { firstMs: 100, maxMs: 5_000 };

/**
 * Tells the store what became of the rows of a claim, in batches without a timer: what is known goes as soon as there is a
 * turn for it, and gathers otherwise. A call that fails is made again, before anything later.
 */
export class Settler implements Waiter {
  readonly #claim: HeldClaim;
  readonly #calls: StoreCalls;
  readonly #settings: RelaySettings;
  readonly #turns: Turns;
  readonly #unchanged: UnchangedRows;
  readonly #settled: (claim: HeldClaim) => void;
  #waiting: OutboxSettlement[] = [];
  #scheduled = false;
  #calling = false;
  #failures = 0;
  #pause: Timer | undefined;
  #closed = false;

  /** `turns` and `unchanged` are shared by the claims of a relay. `settled` is called after each batch. */
  constructor(
    claim: HeldClaim,
    calls: StoreCalls,
    settings: RelaySettings,
    turns: Turns,
    unchanged: UnchangedRows,
    settled: (claim: HeldClaim) => void,
  ) {
    this.#claim = claim;
    this.#calls = calls;
    this.#settings = settings;
    this.#turns = turns;
    this.#unchanged = unchanged;
    this.#settled = settled;
  }

  get size(): number {
    return this.#waiting.length;
  }

  settle(settlement: OutboxSettlement): void {
    this.#waiting.push(settlement);
    if (this.#scheduled) return;
    this.#scheduled = true;
    // As soon as all results of this turn of the event loop have been heard.
    afterCurrentTurn(() => {
      this.#scheduled = false;
      this.#ask();
    });
  }

  #ask(): void {
    if (this.#calling || this.#pause !== undefined || this.#closed || this.#waiting.length === 0) return;
    this.#turns.ask(this);
  }

  async take(): Promise<void> {
    this.#calling = true;
    const batch = this.#waiting;
    this.#waiting = [];
    const answer = await this.#calls.settle(this.#claim.token, batch);
    this.#calling = false;
    if ("error" in answer) {
      this.#waiting = [...batch, ...this.#waiting];
      this.#rest();
      return;
    }
    this.#failures = 0;
    const unchanged = new Set(answer.value);
    for (const settlement of batch) {
      const { position } = settlement;
      const id = this.#claim.idOf(position);
      if (id !== undefined) this.#unchanged.settled(settlement, id, !unchanged.has(position));
      this.#claim.settled(position);
    }
    this.#settled(this.#claim);
    this.#ask();
  }

  #rest(): void {
    if (this.#closed) return;
    const { clock, random } = this.#settings.internals;
    this.#pause = clock.schedule(
      () => {
        this.#pause = undefined;
        this.#ask();
      },
      backoffMs(++this.#failures, BACKOFF, random),
    );
  }

  /** Makes no further calls. What was not told is sent again by others once the lease is over. */
  close(): void {
    this.#closed = true;
    this.#turns.leave(this);
    if (this.#pause !== undefined) this.#settings.internals.clock.cancel(this.#pause);
    this.#pause = undefined;
  }
}
