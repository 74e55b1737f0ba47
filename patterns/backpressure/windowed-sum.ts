const SLICES = 10;

/** A sum of what was added in the last `windowMs`, kept in ten slices, so that memory does not grow with the rate. */
export class WindowedSum {
  readonly #sliceMs: number;
  readonly #slices: number[] = new Array<number>(SLICES).fill(0);
  /** The number of the slice that is added to, counted from time zero. */
  #current = 0;

  constructor(windowMs: number) {
    this.#sliceMs = windowMs / SLICES;
  }

  add(now: number, amount: number): void {
    this.#advance(now);
    const index = this.#current % SLICES;
    this.#slices[index] = (this.#slices[index] as number) + amount;
  }

  sum(now: number): number {
    this.#advance(now);
    return this.#slices.reduce((sum, amount) => sum + amount, 0);
  }

  #advance(now: number): void {
    const slice = Math.floor(now / this.#sliceMs);
    if (slice - this.#current >= SLICES) {
      this.#slices.fill(0);
      this.#current = slice;
    }
    while (this.#current < slice) {
      this.#current++;
      this.#slices[this.#current % SLICES] = 0;
    }
  }
}
