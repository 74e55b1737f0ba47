/** Some of the offsets from a first one on, a bit each. */
export class OffsetSet {
  readonly #first: number;
  readonly #bits: Uint8Array;

  /** The lowest bit of the first byte stands for `first`. */
  constructor(first: number, bits: Uint8Array) {
    this.#first = first;
    this.#bits = bits;
  }

  static of(first: number, offsets: Iterable<number>): OffsetSet {
    const wanted = [...offsets].filter((offset) => offset >= first);
    const bits = new Uint8Array(Math.ceil((Math.max(first - 1, ...wanted) - first + 1) / 8));
    for (const offset of wanted) add(bits, offset - first);
    return new OffsetSet(first, bits);
  }

  /** No offset at or above it is in the set. */
  get end(): number {
    return this.#first + this.#bits.length * 8;
  }

  has(offset: number): boolean {
    const index = offset - this.#first;
    return index >= 0 && ((this.#bits[Math.floor(index / 8)] ?? 0) & (1 << (index % 8))) !== 0;
  }

  /** The bits, without bytes that are zero at the end. */
  get bits(): Uint8Array {
    let length = this.#bits.length;
    while (length > 0 && this.#bits[length - 1] === 0) length--;
    return this.#bits.subarray(0, length);
  }

  *[Symbol.iterator](): Iterator<number> {
    for (let offset = this.#first; offset < this.end; offset++) if (this.has(offset)) yield offset;
  }
}

/** Sets the bit of an index. */
export function add(bits: Uint8Array, index: number): void {
  const byte = Math.floor(index / 8);
  bits[byte] = (bits[byte] ?? 0) | (1 << (index % 8));
}

/** Clears the bit of an index. */
export function remove(bits: Uint8Array, index: number): void {
  const byte = Math.floor(index / 8);
  bits[byte] = (bits[byte] ?? 0) & ~(1 << (index % 8));
}
