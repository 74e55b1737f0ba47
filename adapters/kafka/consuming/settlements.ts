import type { SettleResult } from "../../../core/adapter.ts";

/** The answer to one `settle`: given when each of its settlements has a result. */
export class SettleAnswer {
  readonly results: Promise<readonly SettleResult[]>;
  readonly #results: SettleResult[];
  #left: number;
  #resolve: (results: readonly SettleResult[]) => void = () => {};

  constructor(size: number) {
    this.#results = new Array<SettleResult>(size).fill("fenced");
    this.#left = size;
    this.results = new Promise((resolve) => {
      this.#resolve = resolve;
    });
    if (size === 0) this.#resolve([]);
  }

  set(index: number, result: SettleResult): void {
    this.#results[index] = result;
    if (--this.#left === 0) this.#resolve(this.#results);
  }
}

/** What was finished in a partition and waits for the commit that holds it. */
export class Settlements {
  // Two arrays instead of an object each: there is one entry per record.
  #answers: SettleAnswer[] = [];
  #indexes: number[] = [];
  /** Of the commit under way. */
  #sent = 0;

  get size(): number {
    return this.#answers.length;
  }

  add(answer: SettleAnswer, index: number): void {
    this.#answers.push(answer);
    this.#indexes.push(index);
  }

  /** A commit with all of them is under way. */
  send(): void {
    this.#sent = this.#answers.length;
  }

  /** That commit is confirmed. */
  confirm(): void {
    this.#answer(this.#sent, "settled");
    this.#sent = 0;
  }

  /** That commit may not have come through. */
  fail(): void {
    this.#sent = 0;
  }

  /** The partition is not ours. */
  fence(): void {
    this.#answer(this.#answers.length, "fenced");
    this.#sent = 0;
  }

  #answer(count: number, result: SettleResult): void {
    if (count === 0) return;
    const answers = this.#answers;
    const indexes = this.#indexes;
    this.#answers = answers.slice(count);
    this.#indexes = indexes.slice(count);
    for (let at = 0; at < count; at++) answers[at]?.set(indexes[at] as number, result);
  }
}
