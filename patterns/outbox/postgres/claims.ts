import { randomUUID } from "node:crypto";
import type { Clock } from "../../../core/clock.ts";
import { isMessagingError, MessagingError } from "../../../core/errors.ts";
import { type PostgresQueries, rowOf, wholeNumber } from "../../../sql/postgres.ts";
import type { OutboxClaim, OutboxClaimRequest, OutboxSettlement } from "../store.ts";
import { SHARDS } from "./schema.ts";
import { outboxRow, type Statements, type StoredRow, settleable } from "./statements.ts";

/** The most shards per claim, so that several claims fit. */
const SHARDS_PER_CLAIM = 16;
/** How often claims check for missing shards, in milliseconds. */
const SHARD_CHECK_MS = 10_000;

/**
 * Claims rows by shards. A claim takes shards with a lease, and then reads their rows. It writes nothing to a row before the
 * settlement, and no two claims see one key. The settlement of its last claimed row frees a shard.
 */
export class Claims {
  readonly #queries: PostgresQueries;
  readonly #statements: Statements;
  readonly #clock: Clock;
  readonly #watch: ShardWatch;
  readonly #claims = new Map<string, ClaimedShards>();

  constructor(queries: PostgresQueries, statements: Statements, clock: Clock, watch: ShardWatch) {
    this.#queries = queries;
    this.#statements = statements;
    this.#clock = clock;
    this.#watch = watch;
  }

  async claim({ relay, limit, leaseMs }: OutboxClaimRequest): Promise<OutboxClaim | undefined> {
    this.#forgetExpired();
    const token = randomUUID();
    const endsAt = this.#clock.monotonic() + leaseMs;
    const most = Math.min(limit, SHARDS_PER_CLAIM);
    let shards = await this.#takeShards(token, relay, leaseMs, most);
    if (shards.length === 0 && this.#watch.isDue && (await this.#watch.check())) {
      shards = await this.#takeShards(token, relay, leaseMs, most);
    }
    if (shards.length === 0) return undefined;
    let rows: readonly StoredRow[];
    try {
      const each = Math.max(Math.floor(limit / shards.length), 1);
      const answers = await this.#queries.rows("read a claim", this.#statements.readShards, [token, shards, each]);
      rows = answers.map((answer) => settleable(rowOf(answer)));
    } catch (error) {
      this.#free(token, shards).catch(() => undefined);
      throw error;
    }
    // Existing shards do not wait for missing ones.
    if (this.#watch.isDue) void this.#watch.check().catch(() => undefined);
    const held = new ClaimedShards(rows, endsAt);
    const taken = new Set(rows.map(({ shard }) => shard));
    const empty = shards.filter((shard) => !taken.has(shard));
    // Their rows were held back after the choice of the shards.
    if (empty.length > 0) await this.#free(token, empty);
    if (rows.length === 0) return undefined;
    this.#claims.set(token, held);
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
    const shards = await this.#queries.rows<Shard>("take a claim", this.#statements.takeShards, values, late);
    return shards.map(({ shard }) => wholeNumber(shard));
  }

  async #free(token: string, shards: readonly number[]): Promise<void> {
    if (shards.length > 0) await this.#queries.rows("free a claim", this.#statements.settleSent, [token, [], shards]);
  }

  async renew(token: string, leaseMs: number): Promise<"renewed" | "lost"> {
    const held = this.#claims.get(token);
    if (held === undefined) return "lost";
    const endsAt = this.#clock.monotonic() + leaseMs;
    const before = held.count;
    const shards = await this.#queries.rows<Shard>("renew a claim", this.#statements.renew, [token, leaseMs]);
    held.endsAt = endsAt;
    // A settlement may have freed some meanwhile.
    return shards.length >= Math.min(before, held.count) ? "renewed" : "lost";
  }

  settle(token: string, settlements: readonly OutboxSettlement[]): Promise<readonly number[]> {
    if (settlements.length === 0) return Promise.resolve([]);
    const held = this.#claims.get(token);
    if (held === undefined) return this.#settle(token, settlements, undefined);
    const settled = held.last.then(() => this.#settle(token, settlements, held));
    held.last = settled.catch(() => undefined);
    return settled;
  }

  async #settle(
    token: string,
    settlements: readonly OutboxSettlement[],
    held: ClaimedShards | undefined,
  ): Promise<readonly number[]> {
    const settled = new Set<number>();
    // The first settlement of each row counts; `sent` also for rows that the claim has lost.
    const known = settlements.filter(({ outcome, position }) => {
      if (settled.has(position) || (outcome !== "sent" && held?.unsettled(position) === undefined)) return false;
      settled.add(position);
      return true;
    });
    const positions = [...settled];
    const freed = held?.freedBy(positions) ?? [];
    const rows = await (known.every(({ outcome }) => outcome === "sent")
      ? this.#queries.rows<Settled>("settle", this.#statements.settleSent, [token, positions, freed])
      : this.#queries.rows<Settled>("settle", this.#statements.settle, settleValues(token, known, freed, held)));
    const changed = new Set(rows.map(({ position }) => wholeNumber(position)));
    held?.settled(positions);
    if (held?.count === 0) this.#claims.delete(token);
    return settlements.map(({ position }) => position).filter((position) => !changed.has(position));
  }

  /** Forgets unsettled claims whose lease has ended. */
  #forgetExpired(): void {
    const now = this.#clock.monotonic();
    for (const [token, { endsAt }] of this.#claims) if (endsAt < now) this.#claims.delete(token);
  }
}

function settleValues(
  token: string,
  settlements: readonly OutboxSettlement[],
  shards: readonly number[],
  held?: ClaimedShards,
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
    failed.map(({ position }) => held?.unsettled(position)?.attempts ?? 0),
    positions("released"),
  ];
}

/** A text, as all numbers. */
interface Shard {
  readonly shard: unknown;
}

/** A row that the statement settled. */
interface Settled {
  readonly position: unknown;
}

type Row = Pick<StoredRow, "position" | "shard" | "attempts">;

/** The shards that a claim still holds, with their unsettled rows. */
class ClaimedShards {
  readonly #rows = new Map<number, Set<number>>();
  readonly #unsettled = new Map<number, Row>();
  /** When the lease has ended for sure, by this process' clock. */
  endsAt: number;
  /** Settlements run one after another: the last one of a shard frees it. */
  last: Promise<unknown> = Promise.resolve();

  constructor(rows: readonly Row[], endsAt: number) {
    this.endsAt = endsAt;
    for (const row of rows) {
      const { position, shard } = row;
      this.#unsettled.set(position, row);
      const others = this.#rows.get(shard);
      if (others === undefined) this.#rows.set(shard, new Set([position]));
      else others.add(position);
    }
  }

  unsettled(position: number): Row | undefined {
    return this.#unsettled.get(position);
  }

  get count(): number {
    return this.#rows.size;
  }

  /** The shards whose unsettled rows are all among these. */
  freedBy(positions: readonly number[]): readonly number[] {
    const settled = new Map<number, number>();
    for (const position of new Set(positions)) {
      const shard = this.#unsettled.get(position)?.shard;
      if (shard !== undefined) settled.set(shard, (settled.get(shard) ?? 0) + 1);
    }
    return [...settled].filter(([shard, count]) => this.#rows.get(shard)?.size === count).map(([shard]) => shard);
  }

  settled(positions: readonly number[]): void {
    for (const position of positions) {
      const shard = this.#unsettled.get(position)?.shard;
      if (shard === undefined) continue;
      this.#unsettled.delete(position);
      const others = this.#rows.get(shard);
      others?.delete(position);
      if (others?.size === 0) this.#rows.delete(shard);
    }
  }
}

/** Restores deleted shards, and adds those of rows that others wrote: rows without a shard are never claimed. */
export class ShardWatch {
  readonly #queries: PostgresQueries;
  readonly #statements: Statements;
  readonly #clock: Clock;
  #dueAt = 0;

  constructor(queries: PostgresQueries, statements: Statements, clock: Clock) {
    this.#queries = queries;
    this.#statements = statements;
    this.#clock = clock;
  }

  get isDue(): boolean {
    return this.#clock.monotonic() >= this.#dueAt;
  }

  /** Makes the next claim check. */
  setDue(): void {
    this.#dueAt = 0;
  }

  /**
   * Resolves with whether it created any. Rejects with `conflict` if all shards are missing and the role may not create
   * them; `health` reports single missing ones.
   */
  async check(): Promise<boolean> {
    const { missingShards, makeShards } = this.#statements;
    this.#dueAt = this.#clock.monotonic() + SHARD_CHECK_MS;
    const missing = await this.#queries.rows("check its shards", missingShards);
    if (missing.length === 0) return false;
    try {
      await this.#queries.rows("restore its shards", makeShards);
      return true;
    } catch (cause) {
      if (!isMessagingError(cause, "unauthorized")) throw cause;
      if (missing.length < SHARDS) return false;
      this.setDue();
      throw new MessagingError(
        "conflict",
        "the outbox store's Postgres gives no claims: the table that ends with _shards is empty, and the role may not fill it. Call migrate() as the tables' owner, or grant the role INSERT on it",
        { cause },
      );
    }
  }
}
