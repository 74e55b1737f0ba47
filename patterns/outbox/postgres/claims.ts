import { randomUUID } from "node:crypto";
import type { Clock } from "../../../core/index.ts";
import { rowOf, wholeNumber } from "../../../sql/postgres.ts";
import type { OutboxClaim, OutboxClaimRequest, OutboxSettlement } from "../store.ts";
import type { Asking } from "./asking.ts";
import { HeldLanes } from "./held-lanes.ts";
import type { LaneWatch } from "./lane-watch.ts";
import { LANES_PER_CLAIM } from "./lanes.ts";
import { outboxRow, type StoredRow, settleable } from "./rows.ts";
import type { Statements } from "./statements.ts";

/** As texts. */
interface Lane {
  readonly lane: unknown;
}

/** A row that was the claim's to settle. */
interface Settled {
  readonly position: unknown;
}

/**
 * Claims by lanes. A claim takes lanes with a lease, and then reads their rows: nothing is written to a row before its end,
 * and no two claims ever look at one key. A lane is free again with the last of its rows in the claim.
 */
export class Claims {
  readonly #asking: Asking;
  readonly #statements: Statements;
  readonly #clock: Clock;
  readonly #watch: LaneWatch;
  readonly #held = new Map<string, HeldLanes>();

  constructor(asking: Asking, statements: Statements, clock: Clock, watch: LaneWatch) {
    this.#asking = asking;
    this.#statements = statements;
    this.#clock = clock;
    this.#watch = watch;
  }

  async claim({ relay, limit, leaseMs }: OutboxClaimRequest): Promise<OutboxClaim | undefined> {
    this.#forgetEnded();
    const token = randomUUID();
    const endsAt = this.#clock.monotonic() + leaseMs;
    const most = Math.min(limit, LANES_PER_CLAIM);
    let lanes = await this.#takeLanes(token, relay, leaseMs, most);
    if (lanes.length === 0 && this.#watch.isDue && (await this.#watch.look())) {
      lanes = await this.#takeLanes(token, relay, leaseMs, most);
    }
    if (lanes.length === 0) return undefined;
    let rows: readonly StoredRow[];
    try {
      const each = Math.max(Math.floor(limit / lanes.length), 1);
      const answers = await this.#asking.rows("read a claim", this.#statements.readLanes, [token, lanes, each]);
      rows = answers.map((answer) => settleable(rowOf(answer)));
    } catch (error) {
      this.#free(token, lanes).catch(() => undefined);
      throw error;
    }
    // What there is does not wait for what is missing.
    if (this.#watch.isDue) void this.#watch.look().catch(() => undefined);
    const held = new HeldLanes(rows, endsAt);
    const taken = new Set(rows.map(({ lane }) => lane));
    const empty = lanes.filter((lane) => !taken.has(lane));
    // Somebody held back what there was since the lanes were chosen.
    if (empty.length > 0) await this.#free(token, empty);
    if (rows.length === 0) return undefined;
    this.#held.set(token, held);
    return { token, rows: rows.map(outboxRow) };
  }

  async #takeLanes(token: string, relay: string, leaseMs: number, most: number): Promise<readonly number[]> {
    const late = (lanes: readonly Lane[]): void => {
      this.#free(
        token,
        lanes.map(({ lane }) => wholeNumber(lane)),
      ).catch(() => undefined);
    };
    const values = [token, relay, leaseMs, most];
    const lanes = await this.#asking.rows<Lane>("take a claim", this.#statements.takeLanes, values, late);
    return lanes.map(({ lane }) => wholeNumber(lane));
  }

  async #free(token: string, lanes: readonly number[]): Promise<void> {
    if (lanes.length > 0) await this.#asking.rows("free a claim", this.#statements.settleSent, [token, [], lanes]);
  }

  async renew(token: string, leaseMs: number): Promise<"renewed" | "lost"> {
    const held = this.#held.get(token);
    if (held === undefined) return "lost";
    const endsAt = this.#clock.monotonic() + leaseMs;
    const before = held.count;
    const lanes = await this.#asking.rows<Lane>("renew a claim", this.#statements.renew, [token, leaseMs]);
    held.endsAt = endsAt;
    // Some may have been freed by a settlement meanwhile.
    return lanes.length >= Math.min(before, held.count) ? "renewed" : "lost";
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
    held: HeldLanes | undefined,
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
  lanes: readonly number[],
  held?: HeldLanes,
): unknown[] {
  const positions = (wanted: OutboxSettlement["outcome"]): number[] =>
    settlements.filter(({ outcome }) => outcome === wanted).map(({ position }) => position);
  const failed = settlements.filter((one) => one.outcome === "failed" || one.outcome === "quarantined");
  return [
    token,
    positions("sent"),
    lanes,
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
