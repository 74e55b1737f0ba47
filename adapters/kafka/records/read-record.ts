import { MessagingError } from "../../../core/errors.ts";
import type { BatchExtent, HeaderList, HeaderSource, LogRecord } from "./contract.ts";

const NONE: HeaderList = Object.freeze({ names: [], values: [] });

/** A record as it was read: its headers become an object only when somebody asks, which for most records nobody does. */
export class ReadRecord implements LogRecord {
  readonly topic: string;
  readonly partition: number;
  readonly offset: number;
  readonly timestamp: number;
  readonly appendTime: boolean;
  readonly key: Buffer | undefined;
  readonly value: Buffer | undefined;
  readonly written: HeaderSource | undefined;
  /** What there is too much of for its headers to be read. */
  readonly #excess: string | undefined;
  #problem: MessagingError | undefined = undefined;
  #headers: Readonly<Record<string, Buffer>> | undefined = undefined;

  constructor(
    topic: string,
    partition: number,
    offset: number,
    timestamp: number,
    appendTime: boolean,
    key: Buffer | undefined,
    value: Buffer | undefined,
    written: HeaderSource | undefined,
    excess: string | undefined,
  ) {
    this.topic = topic;
    this.partition = partition;
    this.offset = offset;
    this.timestamp = timestamp;
    this.appendTime = appendTime;
    this.key = key;
    this.value = value;
    this.written = written;
    this.#excess = excess;
  }

  get problem(): MessagingError | undefined {
    if (this.#excess === undefined) return undefined;
    const where = `the record at offset ${this.offset} of "${this.topic}", partition ${this.partition},`;
    this.#problem ??= new MessagingError("too-large", `${where} has more than ${this.#excess}, which are not read`);
    return this.#problem;
  }

  get headers(): Readonly<Record<string, Buffer>> {
    if (this.#headers === undefined) {
      const headers: Record<string, Buffer> = Object.create(null);
      const { names, values } = this.written?.list() ?? NONE;
      for (let index = 0; index < names.length; index++) headers[names[index] as string] = values[index] as Buffer;
      this.#headers = headers;
    }
    return this.#headers;
  }
}

/** What takes the place of records that cannot be read. */
export function unreadableRecord(offset: number, extent: BatchExtent, error: MessagingError): LogRecord {
  const { timestamp, appendTime } = extent;
  const headers: Readonly<Record<string, Buffer>> = Object.freeze(Object.create(null));
  return { offset, timestamp, appendTime, key: undefined, value: undefined, headers, unreadable: { ...extent, error } };
}
