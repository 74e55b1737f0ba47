/** Limits how much runs at once. The limit may change meanwhile. */
export class Slots {
  most: number;
  #taken = 0;
  #waiting: (() => void)[] = [];

  constructor(most: number) {
    this.most = most;
  }

  async take(): Promise<void> {
    while (this.#taken >= this.most) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    this.#taken++;
  }

  give(): void {
    this.#taken--;
    this.#waiting.shift()?.();
  }

  setMost(most: number): void {
    this.most = most;
    // Each checks the limit again.
    for (const wake of this.#waiting.splice(0)) wake();
  }
}

/** Runs `run` for each item, at most `most` at once. Rejects with the first error; the other items are run all the same. */
export async function forEachAtOnce<Item>(
  most: number,
  items: Iterable<Item>,
  run: (item: Item) => Promise<void>,
): Promise<void> {
  const left = items[Symbol.iterator]();
  const worker = async (): Promise<void> => {
    for (let next = left.next(); next.done !== true; next = left.next()) await run(next.value);
  };
  await Promise.all(Array.from({ length: most }, worker));
}
