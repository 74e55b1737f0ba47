import { afterCurrentTurn, type Clock, type Random, type Timer } from "../../../core/clock.ts";
import { backoffMs } from "../../../core/retry-policy.ts";
import { ask, type StoreAnswer } from "../../../core/stores.ts";
import { headerBytes } from "../../../core/system-headers.ts";
import type { RelaySettings, RelayStoreCall } from "../relay-options.ts";
import type { OutboxClaim, OutboxHealth, OutboxRow, OutboxSettlement } from "../store.ts";

const SETTLE_BACKOFF = { firstMs: 100, maxMs: 5_000 };
const UNCHANGED_BACKOFF = { firstMs: 1_000, maxMs: 60_000 };
/** The most unchanged rows to remember. Other relays settled most of them. */
const MOST_UNCHANGED = 10_000;

/** The calls of a relay to its store. They never reject, end in time, and emit their failures. */
export class StoreCalls {
  readonly #settings: RelaySettings;
  readonly #failing = new Map<RelayStoreCall, unknown>();
  readonly #changed: () => void;

  /** `changed` is called when {@link StoreCalls.failure} may have changed. */
  constructor(settings: RelaySettings, changed: () => void) {
    this.#settings = settings;
    this.#changed = changed;
  }

  /** Why the last calls could not claim or settle; undefined if they could. */
  get failure(): unknown {
    return this.#failing.get("claim") ?? this.#failing.get("settle");
  }

  claim(limit: number): Promise<StoreAnswer<OutboxClaim | undefined>> {
    const { store, name: relay, leaseMs } = this.#settings;
    // A claim whose answer came too late would hold its rows until the lease ends.
    const late = (claim: OutboxClaim | undefined): void => {
      if (claim === undefined) return;
      const released = claim.rows.map(({ position }) => ({ position, outcome: "released" }) as const);
      void this.settle(claim.token, released);
    };
    return this.#ask("claim", () => store.claim({ relay, limit, leaseMs }), late);
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

  async #ask<T>(call: RelayStoreCall, action: () => Promise<T>, late?: (value: T) => void): Promise<StoreAnswer<T>> {
    const { internals, store, storeTimeoutMs, emit } = this.#settings;
    const answer = await ask(`outbox in ${store.name}`, internals.clock, storeTimeoutMs, action, late);
    if ("error" in answer) {
      this.#failing.set(call, answer.error);
      emit({ type: "store-failed", call, error: answer.error });
    } else {
      this.#failing.delete(call);
    }
    this.#changed();
    return answer;
  }
}

/**
 * Settles the rows of a claim in batches, without a timer: a batch goes as soon as it has a turn, and grows until then. A
 * failed call is repeated before later settlements.
 */
export class SettlementBatcher implements Waiter {
  readonly #claim: RelayClaim;
  readonly #calls: StoreCalls;
  readonly #settings: RelaySettings;
  readonly #turns: Turns;
  readonly #unchanged: UnchangedRows;
  readonly #settled: (claim: RelayClaim) => void;
  #batch: OutboxSettlement[] = [];
  #scheduled = false;
  #calling = false;
  #failures = 0;
  #pause: Timer | undefined;
  #closed = false;

  /** All claims of a relay share `turns` and `unchanged`. `settled` is called after each batch. */
  constructor(
    claim: RelayClaim,
    calls: StoreCalls,
    settings: RelaySettings,
    turns: Turns,
    unchanged: UnchangedRows,
    settled: (claim: RelayClaim) => void,
  ) {
    this.#claim = claim;
    this.#calls = calls;
    this.#settings = settings;
    this.#turns = turns;
    this.#unchanged = unchanged;
    this.#settled = settled;
  }

  get size(): number {
    return this.#batch.length;
  }

  settle(settlement: OutboxSettlement): void {
    this.#batch.push(settlement);
    if (this.#scheduled) return;
    this.#scheduled = true;
    // Gathers all results of this turn of the event loop.
    afterCurrentTurn(() => {
      this.#scheduled = false;
      this.#askTurn();
    });
  }

  async take(): Promise<void> {
    this.#calling = true;
    const batch = this.#batch;
    this.#batch = [];
    const answer = await this.#calls.settle(this.#claim.token, batch);
    this.#calling = false;
    if ("error" in answer) {
      this.#batch = [...batch, ...this.#batch];
      this.#retryLater();
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
    this.#askTurn();
  }

  /** Ends the calls. After the lease, other relays send the rows that are not settled. */
  close(): void {
    this.#closed = true;
    this.#turns.leave(this);
    if (this.#pause !== undefined) this.#settings.internals.clock.cancel(this.#pause);
    this.#pause = undefined;
  }

  #askTurn(): void {
    if (this.#calling || this.#pause !== undefined || this.#closed || this.#batch.length === 0) return;
    this.#turns.ask(this);
  }

  #retryLater(): void {
    if (this.#closed) return;
    const { clock, random } = this.#settings.internals;
    const again = (): void => {
      this.#pause = undefined;
      this.#askTurn();
    };
    this.#pause = clock.schedule(again, backoffMs(++this.#failures, SETTLE_BACKOFF, random));
  }
}

/** Something that wants a turn. */
interface Waiter {
  /** How much a turn would do. */
  readonly size: number;
  /** Takes a turn. Resolves at its end, and never rejects. */
  take(): Promise<void>;
}

/** Gives turns to a few waiters at a time. The waiter with the most to do is next, so that batches grow. */
export class Turns {
  readonly #most: number;
  readonly #waiting = new Set<Waiter>();
  #taken = 0;

  constructor(most: number) {
    this.#most = most;
  }

  /** Asks for a turn. A second call while it waits does nothing. */
  ask(waiter: Waiter): void {
    this.#waiting.add(waiter);
    this.#next();
  }

  leave(waiter: Waiter): void {
    this.#waiting.delete(waiter);
  }

  #next(): void {
    while (this.#taken < this.#most && this.#waiting.size > 0) {
      let next: Waiter | undefined;
      for (const waiter of this.#waiting) if (next === undefined || waiter.size > next.size) next = waiter;
      if (next === undefined) return;
      this.#waiting.delete(next);
      this.#taken++;
      void next.take().then(() => {
        this.#taken--;
        this.#next();
      });
    }
  }
}

interface Unchanged {
  readonly id: string;
  /** Whether the broker has the message. */
  readonly sent: boolean;
  readonly failures: number;
  /** The row is skipped until then, by the monotonic clock. */
  readonly until: number;
}

/**
 * Rows whose settlement changed nothing. Most have another owner by now, or are gone. If a claim returns one again, the
 * database ignores the settlement, for example because a trigger keeps rows from being removed.
 */
export class UnchangedRows {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #rows = new Map<number, Unchanged>();

  constructor(clock: Clock, random: Random) {
    this.#clock = clock;
    this.#random = random;
  }

  /** The store accepted a settlement, and changed the row or not. */
  settled({ position, outcome }: OutboxSettlement, id: string, changed: boolean): void {
    if (outcome === "released") return;
    const before = this.#find(position, id);
    this.#rows.delete(position);
    if (changed) return;
    const failures = before === undefined ? 1 : before.failures + 1;
    const sent = outcome === "sent" || before?.sent === true;
    // A sent row can be quarantined at once.
    const waitMs = before === undefined && sent ? 0 : backoffMs(failures, UNCHANGED_BACKOFF, this.#random);
    this.#rows.set(position, { id, sent, failures, until: this.#clock.monotonic() + waitMs });
    if (this.#rows.size > MOST_UNCHANGED) for (const oldest of this.#rows.keys()) return void this.#rows.delete(oldest);
  }

  /** Whether a claimed row was sent before, and whether to skip it; undefined for a usual row. */
  check({ position, id }: OutboxRow): { readonly sent: boolean; readonly waits: boolean } | undefined {
    const known = this.#rows.size === 0 ? undefined : this.#find(position, id);
    if (known === undefined) return undefined;
    const waits = this.#clock.monotonic() < known.until;
    return waits || known.sent ? { sent: known.sent, waits } : undefined;
  }

  #find(position: number, id: string): Unchanged | undefined {
    const known = this.#rows.get(position);
    return known?.id === id ? known : undefined;
  }
}

/** A row of a claim, until it is sent or given up. */
export interface ClaimedRow {
  readonly row: OutboxRow;
  /** The size of its body and headers. */
  readonly bytes: number;
  /** The rows of its key that wait, in order; undefined without a key. */
  readonly behind: ClaimedRow[] | undefined;
}

/**
 * The rows of one claim, until they are settled. One row of each key is in flight at a time, in the order of the claim. By the
 * contract of stores, no other claim has rows of these keys meanwhile.
 */
export class RelayClaim {
  readonly token: string;
  /** The size of the rows that are neither sent nor given up. */
  bytes = 0;
  /** The relay holds the lease at least until then, by the monotonic clock. */
  heldUntil: number;
  /** Whether another relay may have the rows: then the relay begins no more sends. */
  lost = false;
  readonly #keyQueues = new Map<string, ClaimedRow[]>();
  #heads: ClaimedRow[] = [];
  /** The ids of the unsettled rows, by position. */
  readonly #unsettled = new Map<number, string>();
  readonly #count: number;
  #skipped = 0;
  readonly #sending = new Set<ClaimedRow>();

  constructor({ token, rows }: OutboxClaim, heldUntil: number) {
    this.token = token;
    this.heldUntil = heldUntil;
    this.#count = rows.length;
    for (const row of rows) this.#add(row);
  }

  #add(row: OutboxRow): void {
    const bytes = row.body.length + headerBytes(row.headers);
    this.bytes += bytes;
    this.#unsettled.set(row.position, row.id);
    if (row.key === undefined) {
      this.#heads.push({ row, bytes, behind: undefined });
      return;
    }
    const key = `${row.to.kind} ${row.to.name} ${row.key}`;
    const queue = this.#keyQueues.get(key);
    if (queue !== undefined) {
      queue.push({ row, bytes, behind: queue });
      return;
    }
    const behind: ClaimedRow[] = [];
    this.#keyQueues.set(key, behind);
    this.#heads.push({ row, bytes, behind });
  }

  /** The number of unsettled rows. */
  get size(): number {
    return this.#unsettled.size;
  }

  /** Whether all of its rows were skipped. */
  get isFruitless(): boolean {
    return this.#skipped > 0 && this.#skipped === this.#count;
  }

  skipped(count: number): void {
    this.#skipped += count;
  }

  /** The id of an unsettled row. */
  idOf(position: number): string | undefined {
    return this.#unsettled.get(position);
  }

  get sending(): number {
    return this.#sending.size;
  }

  /** Takes the first row of each key and all rows without a key, in the order of the claim. */
  takeHeads(): readonly ClaimedRow[] {
    const heads = this.#heads;
    this.#heads = [];
    return heads;
  }

  began(claimed: ClaimedRow): void {
    this.#sending.add(claimed);
  }

  /** The send of a row ended. False if the row was given up before. */
  ended(claimed: ClaimedRow): boolean {
    if (!this.#sending.delete(claimed)) return false;
    this.bytes -= claimed.bytes;
    return true;
  }

  /** Takes the rows that wait behind a row of their key. */
  takeBehind({ behind }: ClaimedRow): readonly ClaimedRow[] {
    return this.#giveUp(behind?.splice(0) ?? []);
  }

  /** Takes all rows whose send has not begun. */
  takeWaiting(): readonly ClaimedRow[] {
    return this.#giveUp([...this.takeHeads(), ...[...this.#keyQueues.values()].flatMap((queue) => queue.splice(0))]);
  }

  /** Takes the rows in flight, and ignores the end of their sends. */
  takeSending(): readonly ClaimedRow[] {
    const sending = [...this.#sending];
    this.#sending.clear();
    return this.#giveUp(sending);
  }

  #giveUp(rows: readonly ClaimedRow[]): readonly ClaimedRow[] {
    for (const { bytes } of rows) this.bytes -= bytes;
    return rows;
  }

  /** The store has settled a row, or need not. */
  settled(position: number): void {
    this.#unsettled.delete(position);
  }
}
