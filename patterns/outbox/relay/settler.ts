import { afterCurrentTurn, type Timer } from "../../../core/clock.ts";
import { MessagingError } from "../../../core/index.ts";
import { backoffMs } from "../../../core/retry-policy.ts";
import type { RelaySettings, RelayStoreCall } from "../relay-options.ts";
import type { OutboxClaim, OutboxHealth, OutboxSettlement } from "../store.ts";
import type { HeldClaim, Turns, UnchangedRows, Waiter } from "./sender.ts";

/** The answer of a store, or why there is none. */
type StoreAnswer<T> = { readonly value: T } | { readonly error: unknown };

/** The store as a relay asks it: no call rejects or takes longer than it may, and what fails is told. */
export class StoreCalls {
  readonly #settings: RelaySettings;
  readonly #failing = new Map<RelayStoreCall, unknown>();
  readonly #changed: () => void;

  /** `changed` is called when {@link StoreCalls.failure} may be another. */
  constructor(settings: RelaySettings, changed: () => void) {
    this.#settings = settings;
    this.#changed = changed;
  }

  /** Why rows can be neither claimed nor settled, as far as the last calls tell. */
  get failure(): unknown {
    return this.#failing.get("claim") ?? this.#failing.get("settle");
  }

  claim(limit: number): Promise<StoreAnswer<OutboxClaim | undefined>> {
    const { store, name: relay, leaseMs } = this.#settings;
    return this.#ask(
      "claim",
      () => store.claim({ relay, limit, leaseMs }),
      (late) => {
        // It was given up, and must not hold its rows until the lease ends.
        if (late !== undefined)
          void this.settle(
            late.token,
            late.rows.map(({ position }) => release(position)),
          );
      },
    );
  }

  renew(token: string): Promise<StoreAnswer<"renewed" | "lost">> {
    return this.#ask("renew", () => this.#settings.store.renew(token, this.#settings.leaseMs));
  }

  settle(token: string, settlements: readonly OutboxSettlement[]): Promise<StoreAnswer<readonly number[]>> {
    return this.#ask("settle", () => this.#settings.store.settle(token, settlements));
  }

  clean(limit: number): Promise<StoreAnswer<number>> {
    return this.#ask("clean", () => this.#settings.store.clean(limit));
  }

  health(): Promise<StoreAnswer<OutboxHealth>> {
    return this.#ask("health", () => this.#settings.store.health());
  }

  async #ask<T>(
    call: RelayStoreCall,
    action: () => Promise<T>,
    late: (value: T) => void = () => {},
  ): Promise<StoreAnswer<T>> {
    const answer = await this.#within(action, late);
    if ("error" in answer) {
      this.#failing.set(call, answer.error);
      this.#settings.tell({ type: "store-failed", call, error: answer.error });
    } else {
      this.#failing.delete(call);
    }
    this.#changed();
    return answer;
  }

  #within<T>(action: () => Promise<T>, late: (value: T) => void): Promise<StoreAnswer<T>> {
    const { internals, store, storeTimeoutMs } = this.#settings;
    return new Promise((resolve) => {
      let over = false;
      const end = (answer: StoreAnswer<T>): void => {
        over = true;
        internals.clock.cancel(timer);
        resolve(answer);
      };
      const timer = internals.clock.schedule(
        () =>
          end({
            error: new MessagingError(
              "timeout",
              `the outbox in ${store.name} did not answer within ${storeTimeoutMs} ms; the relay asks again. See that the database is up, and raise storeTimeoutMs if it is slow`,
            ),
          }),
        storeTimeoutMs,
      );
      called(action).then(
        (value) => (over ? late(value) : end({ value })),
        (error: unknown) => end({ error }),
      );
    });
  }
}

function release(position: number): OutboxSettlement {
  return { position, outcome: "released" };
}

/** What a call throws, it rejects with. */
async function called<T>(call: () => Promise<T>): Promise<T> {
  return call();
}

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
