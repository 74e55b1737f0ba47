/** Which lanes a claim still holds, and which rows of them are not settled. */
export class HeldLanes {
  readonly #rows = new Map<number, Set<number>>();
  readonly #laneOf = new Map<number, number>();
  /** When the lease is over for sure, by this process' clock. */
  endsAt: number;
  /** Settlements go one after another: the last of a lane must not free it before the others are done. */
  last: Promise<unknown> = Promise.resolve();

  constructor(rows: readonly { readonly position: number; readonly lane: number }[], endsAt: number) {
    this.endsAt = endsAt;
    for (const { position, lane } of rows) {
      this.#laneOf.set(position, lane);
      const others = this.#rows.get(lane);
      if (others === undefined) this.#rows.set(lane, new Set([position]));
      else others.add(position);
    }
  }

  get count(): number {
    return this.#rows.size;
  }

  /** The lanes that hold nothing else than these rows, which some of these are of. */
  freedBy(positions: readonly number[]): readonly number[] {
    const settled = new Map<number, number>();
    for (const position of new Set(positions)) {
      const lane = this.#laneOf.get(position);
      if (lane !== undefined) settled.set(lane, (settled.get(lane) ?? 0) + 1);
    }
    return [...settled].filter(([lane, count]) => this.#rows.get(lane)?.size === count).map(([lane]) => lane);
  }

  settled(positions: readonly number[]): void {
    for (const position of positions) {
      const lane = this.#laneOf.get(position);
      if (lane === undefined) continue;
      this.#laneOf.delete(position);
      const others = this.#rows.get(lane);
      others?.delete(position);
      if (others?.size === 0) this.#rows.delete(lane);
    }
  }
}
