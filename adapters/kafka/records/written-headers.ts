import { ByteReader, Malformed } from "./byte-reader.ts";
import type { HeaderList, HeaderSource } from "./contract.ts";
import { NULL_VALUE } from "./header-list.ts";

/** Longer names are made anew each time. */
const LONGEST_KNOWN = 64;

/** Header names by their places in a record, which mostly are those of the record before. */
export class HeaderNames {
  readonly #known: { readonly bytes: Buffer; readonly name: string }[] = [];

  /** The name that stands at `start`, up to `end`, as number `place` of its record. */
  at(place: number, bytes: Buffer, start: number, end: number): string {
    const known = this.#known[place];
    if (known !== undefined && isSame(known.bytes, bytes, start, end)) return known.name;
    const name = bytes.toString("utf8", start, end);
    // A copy, or it would keep everything that was fetched with it.
    if (end - start <= LONGEST_KNOWN) this.#known[place] = { bytes: Buffer.from(bytes.subarray(start, end)), name };
    return name;
  }
}

/**
 * The headers of a record as they stand in the log. They were looked through once, and become objects only when somebody
 * asks, each time anew: of what is fetched at once millions may be headers.
 */
export class WrittenHeaders implements HeaderSource {
  readonly #bytes: Buffer;
  readonly #start: number;
  readonly #end: number;
  readonly #count: number;
  readonly #names: HeaderNames;

  /** Headers that {@link passHeaders} went through, from the first to the end of the last. */
  constructor(bytes: Buffer, start: number, end: number, count: number, names: HeaderNames) {
    this.#bytes = bytes;
    this.#start = start;
    this.#end = end;
    this.#count = count;
    this.#names = names;
  }

  get size(): number {
    return this.#end - this.#start;
  }

  list(): HeaderList {
    const names: string[] = [];
    const values: Buffer[] = [];
    this.#each((reader, place, start, end) => {
      names.push(this.#names.at(place, reader.bytes, start, end));
      values.push(reader.sized() ?? NULL_VALUE);
    });
    return { names, values };
  }

  last(name: Buffer): Buffer | undefined {
    let found: Buffer | undefined;
    this.#each((reader, _, start, end) => {
      if (isSame(name, reader.bytes, start, end)) found = reader.sized() ?? NULL_VALUE;
      else passBytes(reader);
    });
    return found;
  }

  /** `visit` is given where a name stands, and reads the value. */
  #each(visit: (reader: ByteReader, place: number, start: number, end: number) => void): void {
    const reader = new ByteReader(this.#bytes, this.#start, this.#end);
    for (let place = 0; place < this.#count; place++) {
      const length = reader.length();
      const start = reader.at;
      reader.at += length;
      visit(reader, place, start, reader.at);
    }
  }
}

/** Goes through so many headers, without making anything of them. Throws {@link Malformed} where they are none. */
export function passHeaders(reader: ByteReader, count: number): void {
  for (let index = 0; index < count; index++) {
    const length = reader.length();
    if (length < 0) throw new Malformed("a header has no name");
    reader.at += length;
    passBytes(reader);
  }
}

function passBytes(reader: ByteReader): void {
  const length = reader.length();
  if (length > 0) reader.at += length;
}

function isSame(known: Buffer, bytes: Buffer, start: number, end: number): boolean {
  if (known.length !== end - start) return false;
  for (let index = 0; index < known.length; index++) {
    if (known[index] !== bytes[start + index]) return false;
  }
  return true;
}
