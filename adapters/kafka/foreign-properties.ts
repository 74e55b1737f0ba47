import type { ForeignProperties } from "../../core/adapter.ts";
import type { Headers } from "../../core/delivery.ts";
import type { HeaderList, HeaderToWrite, LogRecord } from "./records/contract.ts";
import { headerList, writtenValue } from "./records/header-list.ts";

const NONE: HeaderList = Object.freeze({ names: [], values: [] });

/** What another sender's record has beside what anybroker reads of it. */
export class KafkaProperties implements ForeignProperties {
  readonly bytes: number;
  /** The bytes of the message's key, where they are no text. */
  readonly key: Buffer | undefined;
  /** The body of a record without a value: one with this very body has none either. */
  readonly #tombstone: Uint8Array | undefined;
  /** The record of the sender's headers, where some are no texts, have no value, or share their names. */
  readonly #record: LogRecord | undefined;
  /** What handlers read of them. */
  readonly #texts: Headers;

  constructor(
    key: Buffer | undefined,
    tombstone: Uint8Array | undefined,
    record: LogRecord | undefined,
    texts: Headers,
  ) {
    this.key = key;
    this.#tombstone = tombstone;
    this.#record = record;
    this.#texts = texts;
    let bytes = 0;
    const seen = new Set<string>();
    const { names, values } = this.#list();
    for (const [index, name] of names.entries()) {
      // One of each name is counted with the headers.
      if (seen.has(name)) bytes += name.length + (values[index]?.length ?? 0);
      seen.add(name);
    }
    this.bytes = bytes;
  }

  isTombstone(body: Uint8Array): boolean {
    return body === this.#tombstone;
  }

  /** Writes headers: those of the sender as they were, where the copy has the texts that stand for them, and in their order. */
  writeHeaders(wire: HeaderToWrite[], headers: Headers): void {
    const done = new Set<string>();
    const { names, values } = this.#list();
    for (const [index, name] of names.entries()) {
      const text = this.#texts[name];
      if (text === undefined || headers[name] !== text) continue;
      done.add(name);
      wire.push([name, writtenValue(values[index] as Buffer)]);
    }
    for (const name in headers) if (!done.has(name)) wire.push([name, headers[name] as string]);
  }

  /** Each time anew: thousands of them may be in few bytes of a log. */
  #list(): HeaderList {
    return this.#record === undefined ? NONE : headerList(this.#record);
  }
}
