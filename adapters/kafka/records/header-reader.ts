import { type ByteReader, Malformed } from "./byte-reader.ts";
import type { LogRecord } from "./contract.ts";

type Headers = LogRecord["headers"];

const NO_BYTES = Buffer.alloc(0);

/** Why the headers of a record are not read. */
export type HeaderExcess = "count" | "bytes";

/** Reads headers into objects without a prototype. */
export class HeaderReader {
  readonly #mostHeaders: number;
  readonly #mostBytes: number;
  /** The names at each place in the record before, which mostly are those of the next as well. */
  readonly #names: { readonly bytes: Buffer; readonly name: string }[] = [];

  constructor(mostHeaders: number, mostBytes: number) {
    this.#mostHeaders = mostHeaders;
    this.#mostBytes = mostBytes;
  }

  /** Reads from the count on to the end of the last header, which must be `end`. */
  read(reader: ByteReader, end: number): Headers | HeaderExcess {
    const count = reader.varint();
    if (count < 0) throw new Malformed("a count of headers is negative");
    const headers: Record<string, Buffer> = Object.create(null);
    if (count > this.#mostHeaders) return skipped(reader, end, "count");
    if (end - reader.at > this.#mostBytes) return skipped(reader, end, "bytes");
    for (let index = 0; index < count; index++) {
      const length = reader.length();
      if (length < 0) throw new Malformed("a header has no name");
      const start = reader.at;
      reader.at += length;
      headers[this.#name(reader, index, start)] = reader.sized() ?? NO_BYTES;
    }
    return headers;
  }

  #name({ bytes, at }: ByteReader, place: number, start: number): string {
    const known = this.#names[place];
    if (known !== undefined && isSame(known.bytes, bytes, start, at)) return known.name;
    const own = bytes.subarray(start, at);
    const name = own.toString();
    this.#names[place] = { bytes: own, name };
    return name;
  }
}

function skipped(reader: ByteReader, end: number, excess: HeaderExcess): HeaderExcess {
  reader.at = end;
  return excess;
}

function isSame(known: Buffer, bytes: Buffer, start: number, end: number): boolean {
  if (known.length !== end - start) return false;
  for (let index = 0; index < known.length; index++) {
    if (known[index] !== bytes[start + index]) return false;
  }
  return true;
}
