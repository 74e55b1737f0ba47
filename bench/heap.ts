/** Looks at the heap now and then; what that takes is not to be counted. Needs `--expose-gc`. */
export class Heap {
  readonly #before = collected();
  #highest = this.#before;
  pausedMs = 0;

  look(): void {
    const begin = performance.now();
    this.#highest = Math.max(this.#highest, collected());
    this.pausedMs += performance.now() - begin;
  }

  /** Before, the highest and the last, collected first, in MiB. */
  report(): readonly [before: number, highest: number, after: number] {
    const after = collected();
    return [this.#before, Math.max(this.#highest, after), after];
  }
}

function collected(): number {
  if (globalThis.gc === undefined) throw new Error("run with node --expose-gc, as npm run bench does");
  globalThis.gc();
  const { heapUsed, external } = process.memoryUsage();
  return (heapUsed + external) / 2 ** 20;
}
