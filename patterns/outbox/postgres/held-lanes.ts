interface Row {
  readonly position: number;
  readonly lane: number;
  readonly attempts: number;
}

/** Which lanes a claim still holds, and which rows of them are not settled. */
export class HeldLanes {
  readonly #rows = new Map<number, Set<number>>();
  readonly #pending = new Map<number, Row>();
  /** When the lease is over for sure, by this process' clock. */
  endsAt: number;
  /** Settlements go one after another: the last of a lane must not free it before the others are done. */
  last: Promise<unknown> = Promise.resolve();

  constructor(rows: readonly Row[], endsAt: number) {
    this.endsAt = endsAt;
    for (const row of rows) {
      const { position, lane } = row;
      this.#pending.set(position, row);
      const others = this.#rows.get(lane);
      if (others === undefined) this.#rows.set(lane, new Set([position]));
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

  /** The lanes that hold nothing else than these rows, which some of these are of. */
  freedBy(positions: readonly number[]): readonly number[] {
    const settled = new Map<number, number>();
    for (const position of new Set(positions)) {
      const lane = this.#pending.get(position)?.lane;
      if (lane !== undefined) settled.set(lane, (settled.get(lane) ?? 0) + 1);
    }
    return [...settled].filter(([lane, count]) => this.#rows.get(lane)?.size === count).map(([lane]) => lane);
  }

  settled(positions: readonly number[]): void {
    for (const position of positions) {
      const lane = this.#pending.get(position)?.lane;
      if (lane === undefined) continue;
      this.#pending.delete(position);
      const others = this.#rows.get(lane);
      others?.delete(position);
      if (others?.size === 0) this.#rows.delete(lane);
    }
  }
}
