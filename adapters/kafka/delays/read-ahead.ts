const MOST_RECORDS = 2_048;
const MOST_BYTES = 8 * 1024 * 1024;

/** How many waiting records of a level are held: enough to send them on in batches, few where they are large. */
export class ReadAhead {
  #averageBytes = 0;
  #prefetch = MOST_RECORDS;

  get prefetch(): number {
    return this.#prefetch;
  }

  /** Learns the size of a record. */
  arrived(bytes: number): void {
    // What is larger counts at once, what is smaller over time.
    this.#averageBytes = Math.max(bytes, this.#averageBytes * 0.99 + bytes * 0.01);
    const fitting = Math.max(1, MOST_BYTES / Math.max(this.#averageBytes, 1));
    // A power of two, so that the consumer is not told a new one with every record.
    this.#prefetch = Math.min(MOST_RECORDS, 2 ** Math.floor(Math.log2(fitting)));
  }
}
