import { type ByteReader, Malformed } from "./byte-reader.ts";
import type { HeaderList } from "./contract.ts";

const NO_BYTES = Buffer.alloc(0);

/** Why the headers of a record are not read. */
export type HeaderExcess = "count" | "bytes";

/** Reads headers as they were written. */
export class HeaderReader {
  readonly #mostHeaders: number;
  readonly #mostBytes: number;
  /** The names at each place in the record before, which mostly are those of the next as well. */
  readonly #known: { readonly bytes: Buffer; readonly name: string }[] = [];
  /** The names of the record before: shared while they are the same. */
  #names: readonly string[] = [];

  constructor(mostHeaders: number, mostBytes: number) {
    this.#mostHeaders = mostHeaders;
    this.#mostBytes = mostBytes;
  }

  /** Reads from the count on to the end of the last header, which must be `end`. */
  read(reader: ByteReader, end: number): HeaderList | HeaderExcess {
    const count = reader.varint();
    if (count < 0) throw new Malformed("a count of headers is negative");
    if (count > this.#mostHeaders) return skipped(reader, end, "count");
    if (end - reader.at > this.#mostBytes) return skipped(reader, end, "bytes");
    const values: Buffer[] = [];
    let names = this.#names.length === count ? this.#names : [];
    for (let index = 0; index < count; index++) {
      const length = reader.length();
      if (length < 0) throw new Malformed("a header has no name");
      const start = reader.at;
      reader.at += length;
      const name = this.#name(reader, index, start);
      if (names[index] !== name) names = [...names.slice(0, index), name];
      values.push(reader.sized() ?? NO_BYTES);
    }
    this.#names = names;
    return { names, values };
  }

  #name({ bytes, at }: ByteReader, place: number, start: number): string {
    const known = this.#known[place];
    if (known !== undefined && isSame(known.bytes, bytes, start, at)) return known.name;
    const own = bytes.subarray(start, at);
    const name = own.toString();
    this.#known[place] = { bytes: own, name };
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
