import { headerBytes } from "../../../core/system-headers.ts";
import type { OutboxClaim, OutboxRow } from "../store.ts";

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
