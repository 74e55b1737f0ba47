import { backoffMs } from "../../../core/retry-policy.ts";
import type { RelaySettings } from "../relay-options.ts";
import type { OutboxClaim } from "../store.ts";
import { Alarm } from "./alarm.ts";
import type { StallWatch } from "./stall-watch.ts";
import type { StoreCalls } from "./store-calls.ts";

const BACKOFF = { firstMs: 100, maxMs: 10_000 };
/** How many claims' worth of rows are held at most. */
const CLAIMS_HELD = 4;
/** Polls are up to so much earlier, by chance, as a share. */
const SPREAD = 0.2;

/** The most claims at once, however small: each is renewed and settled by itself. */
const MOST_CLAIMS = 64;

/** How much a relay holds. */
export interface Held {
  readonly claims: number;
  readonly rows: number;
  readonly bytes: number;
}

/**
 * Claims rows while there is room for them and the broker takes messages. As long as claims find any the next is made at
 * once; otherwise after the time of a poll, or when somebody rings.
 */
export class Claiming {
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
