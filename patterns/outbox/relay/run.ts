import { type Clock, Conditions, pause, type Timer } from "../../../core/clock.ts";
import { backoffMs } from "../../../core/retry-policy.ts";
import type { RelaySettings } from "../relay-options.ts";
import type { OutboxClaim, OutboxSettlement } from "../store.ts";
import { type SendCounts, Sender, StallWatch } from "./sender.ts";
import { RelayClaim, SettlementBatcher, StoreCalls, Turns, UnchangedRows } from "./settlements.ts";

/** Concurrent settling calls. Meanwhile the next batches grow. */
const CONCURRENT_SETTLEMENTS = 2;
/** A lease is renewed this often before it ends. */
const RENEWALS = 3;
const CLAIM_BACKOFF = { firstMs: 100, maxMs: 10_000 };
/** A relay holds at most this many times `batchSize` rows. */
const CLAIMS_HELD = 4;
/** The most claims at once, however small: each has its own renewals and settlements. */
const MOST_CLAIMS = 64;
/** Polls are earlier by a random share up to this. */
const POLL_SPREAD = 0.2;

/** Counters since the relay was created. */
export interface RelayCounts extends SendCounts {
  lost: number;
}

/** The claimed rows of a relay. */
interface Held {
  readonly claims: number;
  readonly rows: number;
  readonly sending: number;
  readonly bytes: number;
}

/** A relay from a start to the next stop. */
export class RelayRun {
  readonly calls: StoreCalls;
  readonly watch: StallWatch;
  readonly #settings: RelaySettings;
  readonly #counts: RelayCounts;
  readonly #claims = new Map<RelayClaim, SettlementBatcher>();
  readonly #claiming: Claiming;
  readonly #sender: Sender;
  readonly #leases: Leases;
  readonly #conditions: Conditions;
  readonly #unchanged: UnchangedRows;
  readonly #turns = new Turns(CONCURRENT_SETTLEMENTS);
  readonly #loops: Promise<unknown>;
  readonly #stop = new AbortController();
  readonly #unlisten: Promise<(() => Promise<void>) | undefined>;

  constructor(settings: RelaySettings, counts: RelayCounts) {
    this.#settings = settings;
    this.#counts = counts;
    const { clock, random } = settings.internals;
    this.#conditions = new Conditions(clock);
    this.calls = new StoreCalls(settings, () => this.watch.check());
    this.watch = new StallWatch(settings, () => this.calls.failure);
    this.#unchanged = new UnchangedRows(clock, random);
    this.#sender = new Sender(settings, this.watch, counts, this.#unchanged, (claim, settlement) =>
      this.#settle(claim, settlement),
    );
    this.#claiming = new Claiming(
      settings,
      this.calls,
      this.watch,
      () => this.held,
      (claim, requestedAt) => this.#claimed(claim, requestedAt),
    );
    this.#leases = new Leases(
      settings,
      this.calls,
      () => this.#claims.keys(),
      (claim, count) => this.#lost(claim, count),
    );
    this.#leases.start();
    this.#unlisten = this.#listen();
    this.#loops = Promise.all([this.#claiming.run(), cleanUntil(this.#stop.signal, settings, this.calls)]);
  }

  get held(): Held {
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
    return this.#stop.signal.aborted;
  }

  /** Resolves when a claim found nothing while the relay held nothing, or at the stop. */
  foundNothing(): Promise<void> {
    return this.#claiming.foundNothing();
  }

  /** Waits for the rows in flight, for `timeoutMs` at most, and releases the rest. */
  async stop(timeoutMs: number): Promise<void> {
    const { clock } = this.#settings.internals;
    this.#stop.abort();
    this.#claiming.stop();
    this.#sender.stop(this.#claims.keys());
    await Promise.all([this.#loops, this.#endListening()]);
    const deadline = clock.monotonic() + timeoutMs;
    await this.#until(deadline, () => this.held.sending === 0);
    this.#sender.abandon(this.#claims.keys());
    // After the lease, other relays send the rows that are not settled.
    await this.#until(
      Math.max(deadline, clock.monotonic() + this.#settings.storeTimeoutMs),
      () => this.held.rows === 0,
    );
    this.#leases.stop();
    for (const batcher of this.#claims.values()) batcher.close();
    this.#claims.clear();
  }

  async #until(deadline: number, condition: () => boolean): Promise<void> {
    const leftMs = deadline - this.#settings.internals.clock.monotonic();
    if (leftMs > 0) await this.#conditions.until(condition, leftMs);
  }

  /** Returns whether there was anything to do. */
  #claimed(outboxClaim: OutboxClaim, requestedAt: number): boolean {
    const claim = new RelayClaim(outboxClaim, requestedAt + this.#settings.leaseMs);
    const settled = (): void => this.#progress(claim);
    const batcher = new SettlementBatcher(claim, this.calls, this.#settings, this.#turns, this.#unchanged, settled);
    this.#claims.set(claim, batcher);
    this.#claiming.learn(claim.size, claim.bytes);
    if (this.stopping) this.#sender.stop([claim]);
    else this.#sender.send(claim);
    return !claim.isFruitless;
  }

  #settle(claim: RelayClaim, settlement: OutboxSettlement): void {
    this.#claims.get(claim)?.settle(settlement);
    if (this.stopping) this.#conditions.check();
  }

  #progress(claim: RelayClaim): void {
    if (claim.size === 0) {
      this.#claims.get(claim)?.close();
      this.#claims.delete(claim);
    }
    this.#conditions.check();
    // There is room, and keys are free; but not after a claim whose rows were all skipped.
    if (claim.size === 0 && !claim.isFruitless) this.#claiming.wake();
  }

  #lost(claim: RelayClaim, count: number): void {
    this.#counts.lost += count;
    if (count > 0) this.#settings.emit({ type: "lost", count });
    this.#progress(claim);
  }

  async #listen(): Promise<(() => Promise<void>) | undefined> {
    try {
      return await this.#settings.store.listen?.(() => this.#claiming.wake());
    } catch (error) {
      // The relay polls all the same; notifications only make it faster.
      this.#settings.emit({ type: "store-failed", call: "listen", error });
      return undefined;
    }
  }

  async #endListening(): Promise<void> {
    const end = await this.#unlisten;
    await end?.().catch(() => {});
  }
}

/**
 * Claims rows while there is room for them and the broker accepts messages. After a claim with rows the next follows at once,
 * otherwise after a poll's time or a wake-up.
 */
class Claiming {
  readonly #settings: RelaySettings;
  readonly #calls: StoreCalls;
  readonly #watch: StallWatch;
  readonly #held: () => Held;
  readonly #claimed: (claim: OutboxClaim, requestedAt: number) => boolean;
  readonly #sleeper: Sleeper;
  #emptyWaiters: (() => void)[] = [];
  #failures = 0;
  #stopped = false;
  /** The average size of the rows, recent claims first. */
  #rowBytes = 0;

  /** `claimed` returns whether there was anything to do. */
  constructor(
    settings: RelaySettings,
    calls: StoreCalls,
    watch: StallWatch,
    held: () => Held,
    claimed: (claim: OutboxClaim, requestedAt: number) => boolean,
  ) {
    this.#settings = settings;
    this.#calls = calls;
    this.#watch = watch;
    this.#held = held;
    this.#claimed = claimed;
    this.#sleeper = new Sleeper(settings.internals.clock);
  }

  /** There may be rows, or room. */
  wake(): void {
    this.#sleeper.wake();
  }

  stop(): void {
    this.#stopped = true;
    this.#sleeper.wake();
    for (const resolve of this.#emptyWaiters.splice(0)) resolve();
  }

  /** Resolves when a claim that starts from now on finds nothing while the relay holds nothing, or at the stop. */
  foundNothing(): Promise<void> {
    if (this.#stopped) return Promise.resolve();
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#emptyWaiters.push(resolve);
    this.#sleeper.wake();
    return promise;
  }

  /** Resolves after the stop and the last claim. */
  async run(): Promise<void> {
    while (!this.#stopped) {
      this.#watch.check();
      const limit = this.#watch.brokerAccepts ? this.#room() : 0;
      const sleepMs = limit === 0 ? this.#pollMs() : await this.#claim(limit);
      if (sleepMs > 0 && !this.#stopped) await this.#sleeper.sleep(sleepMs);
    }
  }

  /** Adds the rows of a claim to the average size. */
  learn(rows: number, bytes: number): void {
    const mean = bytes / rows;
    this.#rowBytes = this.#rowBytes === 0 ? mean : (this.#rowBytes + mean) / 2;
  }

  /** The number of rows that fit now. */
  #room(): number {
    const { batchSize, maxBytes } = this.#settings;
    const { claims, rows, bytes } = this.#held();
    if (rows === 0) return this.#fitting(batchSize, maxBytes);
    if (rows > (CLAIMS_HELD - 1) * batchSize || claims >= MOST_CLAIMS) return 0;
    return bytes >= maxBytes ? 0 : this.#fitting(batchSize, maxBytes - bytes);
  }

  #fitting(rows: number, bytes: number): number {
    if (this.#rowBytes === 0) return rows;
    return Math.max(Math.min(rows, Math.floor(bytes / this.#rowBytes)), 1);
  }

  /** Resolves with the time to sleep. */
  async #claim(limit: number): Promise<number> {
    const { clock, random } = this.#settings.internals;
    const requestedAt = clock.monotonic();
    const waiters = this.#emptyWaiters.splice(0);
    const answer = await this.#calls.claim(limit);
    if ("error" in answer) {
      this.#emptyWaiters.unshift(...waiters);
      return backoffMs(++this.#failures, CLAIM_BACKOFF, random);
    }
    this.#failures = 0;
    const claim = answer.value;
    if (claim === undefined && this.#held().rows === 0) for (const resolve of waiters) resolve();
    else this.#emptyWaiters.unshift(...waiters);
    // After a claim there may be more rows.
    return claim !== undefined && this.#claimed(claim, requestedAt) ? 0 : this.#pollMs();
  }

  #pollMs(): number {
    const { pollMs, internals } = this.#settings;
    return pollMs * (1 - POLL_SPREAD * internals.random.fraction());
  }
}

/** Renews the leases of all claims, and gives up lost ones. */
class Leases {
  readonly #settings: RelaySettings;
  readonly #calls: StoreCalls;
  readonly #claims: () => Iterable<RelayClaim>;
  readonly #lost: (claim: RelayClaim, count: number) => void;
  readonly #renewing = new Set<RelayClaim>();
  #timer: Timer | undefined;

  /** `lost` is called for each lost claim, with the number of its rows that are not sent. */
  constructor(
    settings: RelaySettings,
    calls: StoreCalls,
    claims: () => Iterable<RelayClaim>,
    lost: (claim: RelayClaim, count: number) => void,
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

  async #keep(claim: RelayClaim): Promise<void> {
    const { clock } = this.#settings.internals;
    if (claim.lost || clock.monotonic() >= claim.heldUntil) this.#giveUp(claim);
    if (claim.lost || this.#renewing.has(claim)) return;
    this.#renewing.add(claim);
    // The store starts the lease during the call, not before it.
    const begun = clock.monotonic();
    const answer = await this.#calls.renew(claim.token);
    this.#renewing.delete(claim);
    if ("error" in answer) return;
    if (answer.value === "renewed") claim.heldUntil = begun + this.#settings.leaseMs;
    else if (claim.size > 0) this.#giveUp(claim);
  }

  #giveUp(claim: RelayClaim): void {
    claim.lost = true;
    const rows = claim.takeWaiting();
    // They need no settlement: other relays claim them.
    for (const { row } of rows) claim.settled(row.position);
    this.#lost(claim, rows.length);
  }
}

/** Removes sent rows whose retention has ended, a limited number per call, until the signal is aborted. */
async function cleanUntil(signal: AbortSignal, settings: RelaySettings, calls: StoreCalls): Promise<void> {
  const { clean, internals } = settings;
  if (clean === undefined) return;
  // Random, so that relays that start together do not clean together.
  let sleepMs = clean.everyMs * internals.random.fraction();
  for (;;) {
    await pause(internals.clock, sleepMs, signal);
    if (signal.aborted) return;
    const answer = await calls.clean(clean.limit);
    sleepMs = "value" in answer && answer.value >= clean.limit ? 0 : clean.everyMs;
  }
}

/** Lets one loop sleep. A wake-up before the sleep ends it at once, so that none is missed. */
class Sleeper {
  readonly #clock: Clock;
  #woken = false;
  #resolve: (() => void) | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Ends the sleep, or else the next one. */
  wake(): void {
    this.#woken = true;
    this.#resolve?.();
  }

  /** Resolves after `ms` milliseconds, or at a wake-up. */
  async sleep(ms: number): Promise<void> {
    if (!this.#woken) {
      const { promise, resolve } = Promise.withResolvers<void>();
      const timer = this.#clock.schedule(resolve, ms);
      this.#resolve = resolve;
      await promise;
      this.#resolve = undefined;
      this.#clock.cancel(timer);
    }
    this.#woken = false;
  }
}
