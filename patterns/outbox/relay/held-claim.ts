import { headerBytes } from "../../../core/system-headers.ts";
import type { OutboxClaim, OutboxRow } from "../store.ts";

/** A row of a claim, while it is neither sent nor let go. */
export interface HeldRow {
  readonly row: OutboxRow;
  /** Its body and headers. */
  readonly bytes: number;
  /** Those that wait behind it and each other; undefined where nothing does. */
  readonly lane: HeldRow[] | undefined;
}

/**
 * The rows of one claim, until they are settled. Of each key one is on its way at a time, in the order of the claim; no
 * other claim holds rows of that key meanwhile, by the contract of stores.
 */
export class HeldClaim {
  readonly token: string;
  /** What is neither sent nor let go. */
  bytes = 0;
  /** Until when it is surely ours, by the monotonic clock. */
  heldUntil: number;
  /** Whether others may have it: nothing is begun any more. */
  lost = false;
  readonly #lanes = new Map<string, HeldRow[]>();
  #heads: HeldRow[] = [];
  /** The ids of what is not settled, by position. */
  readonly #unsettled = new Map<number, string>();
  readonly #count: number;
  #passed = 0;
  readonly #sending = new Set<HeldRow>();

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
    const name = row.key === undefined ? undefined : `${row.to.kind} ${row.to.name} ${row.key}`;
    const behind = name === undefined ? undefined : this.#lanes.get(name);
    const lane = behind ?? (name === undefined ? undefined : []);
    const held = { row, bytes, lane };
    if (behind !== undefined) {
      behind.push(held);
      return;
    }
    this.#heads.push(held);
    if (name !== undefined && lane !== undefined) this.#lanes.set(name, lane);
  }

  /** How many rows are not settled. */
  get size(): number {
    return this.#unsettled.size;
  }

  /** Whether it held nothing but what was passed over. */
  get isFruitless(): boolean {
    return this.#passed > 0 && this.#passed === this.#count;
  }

  /** So many rows are let alone for a while. */
  passed(count: number): void {
    this.#passed += count;
  }

  /** The id of a row that is not settled. */
  idOf(position: number): string | undefined {
    return this.#unsettled.get(position);
  }

  get sending(): number {
    return this.#sending.size;
  }

  /** The first of each key and all without one, in the order of the claim. Once. */
  takeHeads(): readonly HeldRow[] {
    const heads = this.#heads;
    this.#heads = [];
    return heads;
  }

  began(held: HeldRow): void {
    this.#sending.add(held);
  }

  /** It is known what became of it. False if it was let go before. */
  ended(held: HeldRow): boolean {
    if (!this.#sending.delete(held)) return false;
    this.bytes -= held.bytes;
    return true;
  }

  /** Takes away all that wait behind the row in its key. */
  takeBehind({ lane }: HeldRow): readonly HeldRow[] {
    return this.#letGo(lane?.splice(0) ?? []);
  }

  /** Takes away everything that was not begun. */
  takeWaiting(): readonly HeldRow[] {
    return this.#letGo([...this.takeHeads(), ...[...this.#lanes.values()].flatMap((lane) => lane.splice(0))]);
  }

  /** Takes away what is on its way: nobody waits for its end any more. */
  takeSending(): readonly HeldRow[] {
    const held = [...this.#sending];
    this.#sending.clear();
    return this.#letGo(held);
  }

  #letGo(rows: readonly HeldRow[]): readonly HeldRow[] {
    for (const { bytes } of rows) this.bytes -= bytes;
    return rows;
  }

  /** The store was told what became of it, or need not be. */
  settled(position: number): void {
    this.#unsettled.delete(position);
  }
}
