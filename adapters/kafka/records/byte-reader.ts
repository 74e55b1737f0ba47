/** The size of a length as a varint. */
export function sizeOfLength(length: number): number {
  return length < 0x40 ? 1 : length < 0x2000 ? 2 : length < 0x10_0000 ? 3 : length < 0x800_0000 ? 4 : 5;
}

/** Writes a length, count or offset as a zigzag varint; -1 means null. Returns the position after it. */
export function writeLength(bytes: Uint8Array, position: number, length: number): number {
  let at = position;
  let rest = ((length << 1) ^ (length >> 31)) >>> 0;
  while (rest > 0x7f) {
    bytes[at++] = (rest & 0x7f) | 0x80;
    rest >>>= 7;
  }
  bytes[at++] = rest;
  return at;
}

/** Bytes that violate the format. Never leaves this folder. */
export class Malformed extends Error {
  override readonly name = "Malformed";
}

/** Reads the primitives of records. Throws {@link Malformed} instead of reading beyond the end. */
export class ByteReader {
  readonly bytes: Buffer;
  readonly end: number;
  at: number;

  constructor(bytes: Buffer, at: number, end: number) {
    this.bytes = bytes;
    this.at = at;
    this.end = end;
  }

  /** A 32-bit zigzag varint. */
  varint(): number {
    const first = this.byte();
    if (first < 0x80) return (first >>> 1) ^ -(first & 1);
    let value = first & 0x7f;
    for (let shift = 7; shift < 35; shift += 7) {
      const byte = this.byte();
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return (value >>> 1) ^ -(value & 1);
    }
    throw new Malformed("a number is longer than 32 bits");
  }

  /** A 64-bit zigzag varint, exact up to 2^53. */
  varlong(): number {
    const first = this.byte();
    if (first < 0x80) return (first >>> 1) ^ -(first & 1);
    let value = first & 0x7f;
    for (let factor = 2 ** 7; factor < 2 ** 70; factor *= 2 ** 7) {
      const byte = this.byte();
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return (first & 1) === 0 ? value / 2 : -(value + 1) / 2;
    }
    throw new Malformed("a number is longer than 64 bits");
  }

  byte(): number {
    if (this.at >= this.end) throw new Malformed("it ends in the middle of a record");
    return this.bytes[this.at++] as number;
  }

  /** A length, checked against the remaining bytes; -1 for null. */
  length(): number {
    const length = this.varint();
    if (length < -1 || length > this.end - this.at) throw new Malformed("a length is wrong");
    return length;
  }

  /** Bytes with a length prefix. Shares the memory. */
  sized(): Buffer | undefined {
    const length = this.length();
    if (length < 0) return undefined;
    const start = this.at;
    this.at += length;
    return this.bytes.subarray(start, this.at);
  }
}
