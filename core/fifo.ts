const COMPACT_AFTER = 1024;

/** A first-in, first-out list with cheap operations at both ends. */
export class Fifo<Item> {
  #items: Item[] = [];
  #head = 0;

  get size(): number {
    return this.#items.length - this.#head;
  }

  push(item: Item): void {
    this.#items.push(item);
  }

  peek(): Item | undefined {
    return this.#items[this.#head];
  }

  shift(): Item | undefined {
    if (this.#head === this.#items.length) return undefined;
    const item = this.#items[this.#head] as Item;
    // Clears the slot now, so that the item can be collected; the array shrinks later.
    this.#items[this.#head] = undefined as Item;
    this.#head++;
    if (this.#head === this.#items.length) this.clear();
    else if (this.#head >= COMPACT_AFTER && this.#head * 2 >= this.#items.length) {
      this.#items = this.#items.slice(this.#head);
      this.#head = 0;
    }
    return item;
  }

  /** Puts items back before all others, keeping their order. */
  putBack(items: readonly Item[]): void {
    this.#items = [...items, ...this.#items.slice(this.#head)];
    this.#head = 0;
  }

  /** Inserts an item after the last one for which `isBefore` is true; cheap at the end. */
  insert(item: Item, isBefore: (other: Item) => boolean): void {
    let at = this.#items.length;
    while (at > this.#head && !isBefore(this.#items[at - 1] as Item)) at--;
    this.#items.splice(at, 0, item);
  }

  clear(): void {
    this.#items = [];
    this.#head = 0;
  }

  *[Symbol.iterator](): Iterator<Item> {
    for (let index = this.#head; index < this.#items.length; index++) yield this.#items[index] as Item;
  }
}
