/** Far more than any cluster has to say at once; each of them may become an object. */
const MOST_ITEMS = 4_000_000;

/**
 * Reads an answer, and never behind its end or backwards: throws a `RangeError` instead, whatever the bytes are. kafkajs'
 * own reader believes every length. Shares the memory of the answer.
 */
export class AnswerReader {
  readonly buffer: Buffer;
  /** For how many milliseconds the server says that it reads nothing more of this socket. */
  throttledMs = 0;
  #at = 0;
  #items = 0;

  constructor(buffer: Buffer) {
    this.buffer = buffer;
  }

  readInt8(): number {
    return this.buffer.readInt8(this.#past(1));
  }

  readInt16(): number {
    return this.buffer.readInt16BE(this.#past(2));
  }

  readInt32(): number {
    return this.buffer.readInt32BE(this.#past(4));
  }

  readInt64(): bigint {
    return this.buffer.readBigInt64BE(this.#past(8));
  }

  readBoolean(): boolean {
    return this.readInt8() === 1;
  }

  readString(): string | null {
    return this.#sized(this.readInt16())?.toString("utf8") ?? null;
  }

  readBytes(): Buffer | null {
    return this.#sized(this.readInt32());
  }

  /** Nothing where it is null. */
  readArray<Item>(read: (from: this) => Item): Item[] {
    const length = this.readInt32();
    return length === -1 ? [] : this.readItems(length, read);
  }

  /** So many items, each of a byte at the least. */
  readItems<Item>(length: number, read: (from: this) => Item): Item[] {
    this.#items += length;
    // So a wrong length costs no memory.
    if (length < 0 || length > this.buffer.length - this.#at || this.#items > MOST_ITEMS) {
      throw new RangeError(`${length} items are more than the message can hold`);
    }
    return Array.from({ length }, () => read(this));
  }

  take(length: number): Buffer {
    const start = this.#past(length);
    return this.buffer.subarray(start, this.#at);
  }

  #sized(length: number): Buffer | null {
    return length === -1 ? null : this.take(length);
  }

  /** Goes on by so many bytes, which must be there. Returns where they begin. */
  #past(length: number): number {
    const start = this.#at;
    if (length < 0 || length > this.buffer.length - start) {
      throw new RangeError(`${length} bytes are not what the message holds`);
    }
    this.#at = start + length;
    return start;
  }
}
