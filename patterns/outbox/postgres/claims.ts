import { randomUUID } from "node:crypto";
import { type Clock, isMessagingError, MessagingError } from "../../../core/index.ts";
import { rowOf, wholeNumber } from "../../../sql/postgres.ts";
import type { OutboxClaim, OutboxClaimRequest, OutboxSettlement } from "../store.ts";
import type { Asking } from "./connection.ts";
import { SHARDS, SHARDS_PER_CLAIM } from "./shards.ts";
import type { Statements } from "./statements.ts";
import { outboxRow, type StoredRow, settleable } from "./statements.ts";

interface Row {
  readonly position: number;
  readonly shard: number;
  readonly attempts: number;
}

/** Which shards a claim still holds, and which rows of them are not settled. */
class HeldShards {
  readonly #rows = new Map<number, Set<number>>();
  readonly #pending = new Map<number, Row>();
  /** When the lease is over for sure, by this process' clock. */
  endsAt: number;
  /** Settlements go one after another: the last of a shard must not free it before the others are done. */
  last: Promise<unknown> = Promise.resolve();

  constructor(rows: readonly Row[], endsAt: number) {
    this.endsAt = endsAt;
    for (const row of rows) {
      const { position, shard } = row;
      this.#pending.set(position, row);
      const others = this.#rows.get(shard);
      if (others === undefined) this.#rows.set(shard, new Set([position]));
      else others.add(position);
    }
  }

  /** A row that is not settled. */
  pending(position: number): Row | undefined {
    return this.#pending.get(position);
  }

  get count(): number {
    return this.#rows.size;
  }

  /** The shards that hold nothing else than these rows, which some of these are of. */
  freedBy(positions: readonly number[]): readonly number[] {
    const settled = new Map<number, number>();
    for (const position of new Set(positions)) {
      const shard = this.#pending.get(position)?.shard;
      if (shard !== undefined) settled.set(shard, (settled.get(shard) ?? 0) + 1);
    }
    return [...settled].filter(([shard, count]) => this.#rows.get(shard)?.size === count).map(([shard]) => shard);
  }

  settled(positions: readonly number[]): void {
    for (const position of positions) {
      const shard = this.#pending.get(position)?.shard;
      if (shard === undefined) continue;
      this.#pending.delete(position);
      const others = this.#rows.get(shard);
      others?.delete(position);
      if (others?.size === 0) this.#rows.delete(shard);
    }
  }
}

/** How often it is looked for shards that are missing, in milliseconds. */
const EVERY_MS = 10_000;

/**
 * Makes shards again that somebody deleted, and those of rows that others wrote into shards of their own: what has no shard is
 * never claimed.
 */
export class ShardWatch {
  readonly #asking: Asking;
  readonly #statements: Statements;
  readonly #clock: Clock;
  #dueAt = 0;

  constructor(asking: Asking, statements: Statements, clock: Clock) {
    this.#asking = asking;
    this.#statements = statements;
    this.#clock = clock;
  }

  get isDue(): boolean {
    return this.#clock.monotonic() >= this.#dueAt;
  }

  /** Lets the next claim look. */
  wake(): void {
    this.#dueAt = 0;
  }

  /**
   * Whether it made any. Rejects with `conflict` if there is no shard at all, and the role may not make them; of single ones
   * the health tells.
   */
  async look(): Promise<boolean> {
    const { missingShards, makeShards } = this.#statements;
    this.#dueAt = this.#clock.monotonic() + EVERY_MS;
    const missing = await this.#asking.rows("look for its shards", missingShards);
    if (missing.length === 0) return false;
    try {
      await this.#asking.rows("make its shards again", makeShards);
      return true;
    } catch (cause) {
      if (!isMessagingError(cause, "unauthorized")) throw cause;
      if (missing.length < SHARDS) return false;
      this.wake();
      throw new MessagingError(
        "conflict",
        "the outbox store's Postgres gives no claims: the table that ends with _shards is empty, and the role may not fill it. Call migrate() as the tables' owner, or grant the role INSERT on it",
        { cause },
      );
    }
  }
}

/** As texts. */
interface Shard {
  readonly shard: unknown;
}

/** A row that was the claim's to settle. */
interface Settled {
  readonly position: unknown;
}

/**
 * Claims by shards. A claim takes shards with a lease, and then reads their rows: nothing is written to a row before its end,
 * and no two claims ever look at one key. A shard is free again with the last of its rows in the claim.
 */
export class Claims {
  readonly #asking: Asking;
  readonly #statements: Statements;
  readonly #clock: Clock;
  readonly #watch: ShardWatch;
  readonly #held = new Map<string, HeldShards>();

  constructor(asking: Asking, statements: Statements, clock: Clock, watch: ShardWatch) {
    this.#asking = asking;
    this.#statements = statements;
    this.#clock = clock;
    this.#watch = watch;
  }

  async claim({ relay, limit, leaseMs }: OutboxClaimRequest): Promise<OutboxClaim | undefined> {
    this.#forgetEnded();
    const token = randomUUID();
    const endsAt = this.#clock.monotonic() + leaseMs;
    const most = Math.min(limit, SHARDS_PER_CLAIM);
    let shards = await this.#takeShards(token, relay, leaseMs, most);
    if (shards.length === 0 && this.#watch.isDue && (await this.#watch.look())) {
      shards = await this.#takeShards(token, relay, leaseMs, most);
    }
    if (shards.length === 0) return undefined;
    let rows: readonly StoredRow[];
    try {
      const each = Math.max(Math.floor(limit / shards.length), 1);
      const answers = await this.#asking.rows("read a claim", this.#statements.readShards, [token, shards, each]);
      rows = answers.map((answer) => settleable(rowOf(answer)));
    } catch (error) {
      this.#free(token, shards).catch(() => undefined);
      throw error;
    }
    // What there is does not wait for what is missing.
    if (this.#watch.isDue) void this.#watch.look().catch(() => undefined);
    const held = new HeldShards(rows, endsAt);
    const taken = new Set(rows.map(({ shard }) => shard));
    const empty = shards.filter((shard) => !taken.has(shard));
    // Somebody held back what there was since the shards were chosen.
    if (empty.length > 0) await this.#free(token, empty);
    if (rows.length === 0) return undefined;
    this.#held.set(token, held);
    return { token, rows: rows.map(outboxRow) };
  }

  async #takeShards(token: string, relay: string, leaseMs: number, most: number): Promise<readonly number[]> {
    const late = (shards: readonly Shard[]): void => {
      this.#free(
        token,
        shards.map(({ shard }) => wholeNumber(shard)),
      ).catch(() => undefined);
    };
    const values = [token, relay, leaseMs, most];
    const shards = await this.#asking.rows<Shard>("take a claim", this.#statements.takeShards, values, late);
    return shards.map(({ shard }) => wholeNumber(shard));
  }

  async #free(token: string, shards: readonly number[]): Promise<void> {
    if (shards.length > 0) await this.#asking.rows("free a claim", this.#statements.settleSent, [token, [], shards]);
  }

  async renew(token: string, leaseMs: number): Promise<"renewed" | "lost"> {
    const held = this.#held.get(token);
    if (held === undefined) return "lost";
    const endsAt = this.#clock.monotonic() + leaseMs;
    const before = held.count;
    const shards = await this.#asking.rows<Shard>("renew a claim", this.#statements.renew, [token, leaseMs]);
    held.endsAt = endsAt;
    // Some may have been freed by a settlement meanwhile.
    return shards.length >= Math.min(before, held.count) ? "renewed" : "lost";
  }

  settle(token: string, settlements: readonly OutboxSettlement[]): Promise<readonly number[]> {
    if (settlements.length === 0) return Promise.resolve([]);
    const held = this.#held.get(token);
    if (held === undefined) return this.#settle(token, settlements, undefined);
    const settled = held.last.then(() => this.#settle(token, settlements, held));
    held.last = settled.catch(() => undefined);
    return settled;
  }

  async #settle(
    token: string,
    settlements: readonly OutboxSettlement[],
    held: HeldShards | undefined,
  ): Promise<readonly number[]> {
    const settled = new Set<number>();
    // Of each row the first that is said; that a row was sent counts also where it is not ours any more.
    const known = settlements.filter(({ outcome, position }) => {
      if (settled.has(position) || (outcome !== "sent" && held?.pending(position) === undefined)) return false;
      settled.add(position);
      return true;
    });
    const positions = [...settled];
    const freed = held?.freedBy(positions) ?? [];
    const rows = await (known.every(({ outcome }) => outcome === "sent")
      ? this.#asking.rows<Settled>("settle", this.#statements.settleSent, [token, positions, freed])
      : this.#asking.rows<Settled>("settle", this.#statements.settle, settleValues(token, known, freed, held)));
    const changed = new Set(rows.map(({ position }) => wholeNumber(position)));
    held?.settled(positions);
    if (held?.count === 0) this.#held.delete(token);
    return settlements.map(({ position }) => position).filter((position) => !changed.has(position));
  }

  /** Claims that nobody ended, and whose lease is over. */
  #forgetEnded(): void {
    const now = this.#clock.monotonic();
    for (const [token, { endsAt }] of this.#held) if (endsAt < now) this.#held.delete(token);
  }
}

function settleValues(
  token: string,
  settlements: readonly OutboxSettlement[],
  shards: readonly number[],
  held?: HeldShards,
): unknown[] {
  const positions = (wanted: OutboxSettlement["outcome"]): number[] =>
    settlements.filter(({ outcome }) => outcome === wanted).map(({ position }) => position);
  const failed = settlements.filter((one) => one.outcome === "failed" || one.outcome === "quarantined");
  return [
    token,
    positions("sent"),
    shards,
    failed.map(({ position }) => position),
    failed.map((one) => (one.outcome === "failed" ? one.retryInMs : 0)),
    failed.map(({ error }) => error.code),
    failed.map(({ error }) => error.message),
    failed.map(({ outcome }) => outcome === "quarantined"),
    failed.map((one) => one.outcome === "failed" || one.holdsKey),
    failed.map(({ position }) => held?.pending(position)?.attempts ?? 0),
    positions("released"),
  ];
}
