import type { HeaderList, HeaderSource, LogRecord } from "./contract.ts";

/** Stands for the value of a header that has none, and is told from an empty one by being this very object. */
export const NULL_VALUE: Buffer = Buffer.alloc(0);
/** The lengths of name and value. */
const LENGTHS_BYTES = 10;

/** The headers of a record in the order in which they were written. */
export function headerList({ written, headers }: LogRecord): HeaderList {
  return written?.list() ?? { names: Object.keys(headers), values: Object.values(headers) };
}

/** As a record is written with it. */
export function writtenValue(value: Buffer): Buffer | undefined {
  return value === NULL_VALUE ? undefined : value;
}

/** Headers that were copied out of a log. */
export class CopiedHeaders implements HeaderSource {
  readonly size: number;
  readonly #list: HeaderList;

  /** Nothing of it shares the memory of what was read. */
  constructor({ names, values }: HeaderList) {
    const copies = values.map((value) => (value === NULL_VALUE ? NULL_VALUE : Buffer.from(value)));
    this.#list = { names, values: copies };
    let size = 0;
    for (const [index, name] of names.entries()) size += name.length + (copies[index]?.length ?? 0) + LENGTHS_BYTES;
    this.size = size;
  }

  list(): HeaderList {
    return this.#list;
  }

  last(name: Buffer): Buffer | undefined {
    const index = this.#list.names.lastIndexOf(name.toString());
    return index < 0 ? undefined : this.#list.values[index];
  }
}
