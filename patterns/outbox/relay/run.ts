import type { Clock, Timer } from "../../../core/clock.ts";
import { backoffMs } from "../../../core/retry-policy.ts";
import type { RelaySettings } from "../relay-options.ts";
import type { OutboxClaim, OutboxSettlement } from "../store.ts";
import { HeldClaim, type SendCounts, Sender, Turns, UnchangedRows } from "./sender.ts";
import { Settler, StoreCalls } from "./settler.ts";
import { StallWatch } from "./stall-watch.ts";

/** What one loop sleeps on. A ring while nobody sleeps is kept for the next sleep, so that no reason to wake is missed. */
export class Alarm {
  readonly #clock: Clock;
  #rung = false;
  #wake: (() => void) | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Ends the sleep, or the next one before it begins. */
  ring(): void {
    this.#rung = true;
    this.#wake?.();
  }

  /** Resolves after so many milliseconds, or at a ring; without a time at a ring alone. One sleeper at a time. */
  async sleep(ms?: number): Promise<void> {
    if (!this.#rung) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const timer = ms === undefined ? undefined : this.#clock.schedule(resolve, ms);
      this.#wake = resolve;
      await promise;
      this.#wake = undefined;
      if (timer !== undefined) this.#clock.cancel(timer);
    }
    this.#rung = false;
  }
}

/** Removes rows that were sent and whose time of keeping is over: a bounded number at a time, beside the sending. */
class Cleaning {
  readonly #settings: RelaySettings;
  readonly #calls: StoreCalls;
  readonly #alarm: Alarm;
  #stopped = false;

  constructor(settings: RelaySettings, calls: StoreCalls) {
    this.#settings = settings;
    this.#calls = calls;
    this.#alarm = new Alarm(settings.internals.clock);
  }

  stop(): void {
    this.#stopped = true;
    this.#alarm.ring();
  }

  /** Resolves at the stop. */
  async run(): Promise<void> {
    const { clean, internals } = this.#settings;
    if (clean === undefined) return;
    // Relays that start together do not clean together.
    let restMs = clean.everyMs * internals.random.fraction();
    while (!this.#stopped) {
      await this.#alarm.sleep(restMs);
      if (this.#stopped) return;
      const answer = await this.#calls.clean(clean.limit);
      restMs = "value" in answer && answer.value >= clean.limit ? 0 : clean.everyMs;
    }
  }
}

/** Leases are renewed three times before they end. */
const RENEWALS = 3;

/** Renews the leases of all claims for as long as they are held; what is lost all the same is let go. */
class Leases {
  readonly #settings: RelaySettings;
  readonly #calls: StoreCalls;
  readonly #claims: () => Iterable<HeldClaim>;
  readonly #lost: (claim: HeldClaim, count: number) => void;
  readonly #renewing = new Set<HeldClaim>();
  #timer: Timer | undefined;

  /** `lost` is told of each lost claim, with how many of its rows will not be sent by us. */
  constructor(
    settings: RelaySettings,
    calls: StoreCalls,
    claims: () => Iterable<HeldClaim>,
    lost: (claim: HeldClaim, count: number) => void,
  ) {
    this.#settings = settings;
    this.#calls = calls;
    this.#claims = claims;
    this.#lost = lost;
  }

  start(): void {
    this.#timer = this.#settings.internals.clock.schedule(() => {
      for (const claim of [...this.#claims()]) void this.#keep(claim);
      this.start();
    }, this.#settings.leaseMs / RENEWALS);
  }

  stop(): void {
    if (this.#timer !== undefined) this.#settings.internals.clock.cancel(this.#timer);
    this.#timer = undefined;
  }

  async #keep(claim: HeldClaim): Promise<void> {
    const { clock } = this.#settings.internals;
    if (clock.monotonic() >= claim.heldUntil) this.#letGo(claim);
    if (claim.lost) this.#letGo(claim);
    if (claim.lost || this.#renewing.has(claim)) return;
    this.#renewing.add(claim);
    // The lease begins while the call is under way, not before it.
    const begun = clock.monotonic();
    const answer = await this.#calls.renew(claim.token);
    this.#renewing.delete(claim);
    if ("error" in answer) return;
    if (answer.value === "renewed") claim.heldUntil = begun + this.#settings.leaseMs;
    else if (claim.size > 0) this.#letGo(claim);
  }

  #letGo(claim: HeldClaim): void {
    claim.lost = true;
    const rows = claim.takeWaiting();
    // Nobody has to be told: they come again by themselves.
    for (const { row } of rows) claim.settled(row.position);
    this.#lost(claim, rows.length);
  }
}

const BACKOFF = { firstMs: 100, maxMs: 10_000 };
/** How many claims' worth of rows are held at most. */
const CLAIMS_HELD = 4;
/** Polls are up to so much earlier, by chance, as a share. */
const SPREAD = 0.2;

/** The most claims at once, however small: each is renewed and settled by itself. */
const MOST_CLAIMS = 64;

/** How much a relay holds. */
interface Held {
  readonly claims: number;
  readonly rows: number;
  readonly bytes: number;
}

/**
 * Claims rows while there is room for them and the broker takes messages. As long as claims find any the next is made at
 * once; otherwise after the time of a poll, or when somebody rings.
 */
class Claiming {
  readonly #settings: RelaySettings;
  readonly #calls: StoreCalls;
  readonly #watch: StallWatch;
  readonly #held: () => Held;
  readonly #claimed: (claim: OutboxClaim, askedAt: number) => boolean;
  readonly #alarm: Alarm;
  #emptyWaiters: (() => void)[] = [];
  #failures = 0;
  #stopped = false;
  /** The middle size of the rows claimed so far. */
  #rowBytes = 0;

  /** `claimed` tells whether there was anything to do. */
  constructor(
    settings: RelaySettings,
    calls: StoreCalls,
    watch: StallWatch,
    held: () => Held,
    claimed: (claim: OutboxClaim, askedAt: number) => boolean,
  ) {
    this.#settings = settings;
    this.#calls = calls;
    this.#watch = watch;
    this.#held = held;
    this.#claimed = claimed;
    this.#alarm = new Alarm(settings.internals.clock);
  }

  /** There may be rows, or room. */
  ring(): void {
    this.#alarm.ring();
  }

  stop(): void {
    this.#stopped = true;
    this.#alarm.ring();
    for (const resolve of this.#emptyWaiters.splice(0)) resolve();
  }

  /** Resolves when a claim that is made from now on finds nothing while nothing is held, or at the stop. */
  foundNothing(): Promise<void> {
    if (this.#stopped) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#emptyWaiters.push(resolve);
    this.#alarm.ring();
    return promise;
  }

  /** Resolves at the stop, when no claim is under way any more. */
  async run(): Promise<void> {
    while (!this.#stopped) {
      this.#watch.look();
      const limit = this.#watch.brokerTakes ? this.#room() : 0;
      const restMs = limit === 0 ? this.#pollMs() : await this.#claim(limit);
      if (restMs > 0 && !this.#stopped) await this.#alarm.sleep(restMs);
    }
  }

  /** How many rows may be asked for now. */
  #room(): number {
    const { batchSize, maxBytes } = this.#settings;
    const { claims, rows, bytes } = this.#held();
    if (rows === 0) return this.#within(batchSize, maxBytes);
    if (rows > (CLAIMS_HELD - 1) * batchSize || claims >= MOST_CLAIMS) return 0;
    return bytes >= maxBytes ? 0 : this.#within(batchSize, maxBytes - bytes);
  }

  #within(rows: number, bytes: number): number {
    if (this.#rowBytes === 0) return rows;
    return Math.max(Math.min(rows, Math.floor(bytes / this.#rowBytes)), 1);
  }

  /** Resolves with how long to rest. */
  async #claim(limit: number): Promise<number> {
    const { clock, random } = this.#settings.internals;
    const askedAt = clock.monotonic();
    const waiters = this.#emptyWaiters.splice(0);
    const answer = await this.#calls.claim(limit);
    if ("error" in answer) {
      this.#emptyWaiters.unshift(...waiters);
      return backoffMs(++this.#failures, BACKOFF, random);
    }
    this.#failures = 0;
    const claim = answer.value;
    if (claim === undefined && this.#held().rows === 0) for (const resolve of waiters) resolve();
    else this.#emptyWaiters.unshift(...waiters);
    if (claim === undefined) return this.#pollMs();
    // It may have been fewer than there are.
    return this.#claimed(claim, askedAt) ? 0 : this.#pollMs();
  }

  /** What was just claimed, for the size of the next claim. */
  learn(rows: number, bytes: number): void {
    const mean = bytes / rows;
    this.#rowBytes = this.#rowBytes === 0 ? mean : (this.#rowBytes + mean) / 2;
  }

  #pollMs(): number {
    const { pollMs, internals } = this.#settings;
    return pollMs * (1 - SPREAD * internals.random.fraction());
  }
}

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
