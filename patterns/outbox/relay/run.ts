import type { RelaySettings } from "../relay-options.ts";
import type { OutboxClaim, OutboxSettlement } from "../store.ts";
import { Alarm } from "./alarm.ts";
import { Claiming } from "./claiming.ts";
import { Cleaning } from "./cleaning.ts";
import { HeldClaim } from "./held-claim.ts";
import { Leases } from "./leases.ts";
import { type SendCounts, Sender } from "./sender.ts";
import { Settler } from "./settler.ts";
import { StallWatch } from "./stall-watch.ts";
import { StoreCalls } from "./store-calls.ts";
import { Turns } from "./turns.ts";
import { UnchangedRows } from "./unchanged-rows.ts";

/** How many calls that settle are under way at once: while they are, more gathers for the next. */
const SETTLING_AT_ONCE = 2;

/** What a relay counted since it was made. */
export interface RelayCounts extends SendCounts {
  lost: number;
}

/** A relay from a start to the next stop. */
export class RelayRun {
  readonly calls: StoreCalls;
  readonly watch: StallWatch;
  readonly #settings: RelaySettings;
  readonly #counts: RelayCounts;
  readonly #claims = new Map<HeldClaim, Settler>();
  readonly #claiming: Claiming;
  readonly #sender: Sender;
  readonly #leases: Leases;
  readonly #cleaning: Cleaning;
  readonly #changed: Alarm;
  readonly #unchanged: UnchangedRows;
  readonly #turns = new Turns(SETTLING_AT_ONCE);
  readonly #loops: Promise<unknown>;
  #unlisten: Promise<(() => Promise<void>) | undefined> | undefined;
  #stopping = false;

  constructor(settings: RelaySettings, counts: RelayCounts) {
    this.#settings = settings;
    this.#counts = counts;
    this.#changed = new Alarm(settings.internals.clock);
    this.calls = new StoreCalls(settings, () => this.watch.look());
    this.watch = new StallWatch(settings, () => this.calls.failure);
    const { clock, random } = settings.internals;
    this.#unchanged = new UnchangedRows(clock, random);
    this.#sender = new Sender(settings, this.watch, counts, this.#unchanged, (claim, settlement) =>
      this.#settle(claim, settlement),
    );
    this.#claiming = new Claiming(
      settings,
      this.calls,
      this.watch,
      () => this.held,
      (claim, askedAt) => this.#claimed(claim, askedAt),
    );
    this.#leases = new Leases(
      settings,
      this.calls,
      () => this.#claims.keys(),
      (claim, count) => this.#lost(claim, count),
    );
    this.#cleaning = new Cleaning(settings, this.calls);
    this.#leases.start();
    this.#unlisten = this.#listen();
    this.#loops = Promise.all([this.#claiming.run(), this.#cleaning.run()]);
  }

  get held(): { readonly claims: number; readonly rows: number; readonly sending: number; readonly bytes: number } {
    let rows = 0;
    let sending = 0;
    let bytes = 0;
    for (const claim of this.#claims.keys()) {
      rows += claim.size;
      sending += claim.sending;
      bytes += claim.bytes;
    }
    return { claims: this.#claims.size, rows, sending, bytes };
  }

  get stopping(): boolean {
    return this.#stopping;
  }

  /** Resolves when a claim found nothing while nothing was held, or at the stop. */
  async foundNothing(): Promise<void> {
    await this.#claiming.foundNothing();
  }

  /** Lets what is on its way come to its end, for so long; gives back the rest. */
  async stop(timeoutMs: number): Promise<void> {
    const { clock } = this.#settings.internals;
    this.#stopping = true;
    this.#claiming.stop();
    this.#cleaning.stop();
    this.#sender.stop(this.#claims.keys());
    await Promise.all([this.#loops, this.#endListening()]);
    const deadline = clock.monotonic() + timeoutMs;
    await this.#until(deadline, () => this.held.sending === 0);
    this.#sender.abandon(this.#claims.keys());
    // Whatever the store cannot be told is sent again once the lease is over.
    await this.#until(
      Math.max(deadline, clock.monotonic() + this.#settings.storeTimeoutMs),
      () => this.held.rows === 0,
    );
    this.#leases.stop();
    for (const settler of this.#claims.values()) settler.close();
    this.#claims.clear();
  }

  async #until(deadline: number, condition: () => boolean): Promise<void> {
    const { clock } = this.#settings.internals;
    for (;;) {
      const leftMs = deadline - clock.monotonic();
      if (condition() || leftMs <= 0) return;
      await this.#changed.sleep(leftMs);
    }
  }

  /** Whether there was anything to do. */
  #claimed(claim: OutboxClaim, askedAt: number): boolean {
    const held = new HeldClaim(claim, askedAt + this.#settings.leaseMs);
    const settled = (): void => this.#progress(held);
    this.#claims.set(held, new Settler(held, this.calls, this.#settings, this.#turns, this.#unchanged, settled));
    this.#claiming.learn(held.size, held.bytes);
    if (this.#stopping) this.#sender.stop([held]);
    else this.#sender.send(held);
    return !held.isFruitless;
  }

  #settle(claim: HeldClaim, settlement: OutboxSettlement): void {
    this.#claims.get(claim)?.settle(settlement);
    if (this.#stopping) this.#changed.ring();
  }

  #progress(claim: HeldClaim): void {
    if (claim.size === 0) {
      this.#claims.get(claim)?.close();
      this.#claims.delete(claim);
    }
    this.#changed.ring();
    // There is room, and keys are free; not so where they were only looked at.
    if (claim.size === 0 && !claim.isFruitless) this.#claiming.ring();
  }

  #lost(claim: HeldClaim, count: number): void {
    this.#counts.lost += count;
    if (count > 0) this.#settings.tell({ type: "lost", count });
    this.#progress(claim);
  }

  async #listen(): Promise<(() => Promise<void>) | undefined> {
    try {
      return await this.#settings.store.listen?.(() => this.#claiming.ring());
    } catch (error) {
      // Polling is always on; wake-ups only make it faster.
      this.#settings.tell({ type: "store-failed", call: "listen", error });
      return undefined;
    }
  }

  async #endListening(): Promise<void> {
    const end = await this.#unlisten;
    this.#unlisten = undefined;
    await end?.().catch(() => {});
  }
}
