const LENGTH_BYTES = 4;
/** The correlation id. */
const MIN_BYTES = 4;

/** Splits the bytes of a socket into protocol frames. */
export class Frames {
  #chunks: Buffer[] = [];
  #held = 0;
  #needed = LENGTH_BYTES;

  /**
   * The frames that these bytes complete, without lengths. Throws a `RangeError` for a length under four bytes or over
   * `mostBytes`.
   */
  *take(chunk: Buffer, mostBytes: () => number): Generator<Buffer, void, undefined> {
    this.#chunks.push(chunk);
    this.#held += chunk.length;
    if (this.#held < this.#needed) return;
    let bytes = this.#chunks.length === 1 ? chunk : Buffer.concat(this.#chunks);
    this.#needed = LENGTH_BYTES;
    while (bytes.length >= LENGTH_BYTES) {
      const length = bytes.readInt32BE(0);
      if (length < MIN_BYTES || length > mostBytes()) throw new RangeError(`a length of ${length} bytes`);
      this.#needed = LENGTH_BYTES + length;
      if (bytes.length < this.#needed) break;
      yield bytes.subarray(LENGTH_BYTES, this.#needed);
      bytes = bytes.subarray(this.#needed);
      this.#needed = LENGTH_BYTES;
    }
    this.#chunks = bytes.length === 0 ? [] : [bytes];
    this.#held = bytes.length;
  }
}
