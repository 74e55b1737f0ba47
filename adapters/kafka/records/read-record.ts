import type { MessagingError } from "../../../core/errors.ts";
import type { BatchExtent, HeaderList, LogRecord } from "./contract.ts";

/** A record as it was read: its headers become an object only when somebody asks, which for most records nobody does. */
export class ReadRecord implements LogRecord {
  readonly topic: string;
  readonly partition: number;
  readonly offset: number;
  readonly timestamp: number;
  readonly appendTime: boolean;
  readonly key: Buffer | undefined;
  readonly value: Buffer | undefined;
  readonly headerList: HeaderList;
  readonly problem: MessagingError | undefined;
  #headers: Readonly<Record<string, Buffer>> | undefined = undefined;

  constructor(
    topic: string,
    partition: number,
    offset: number,
    timestamp: number,
    appendTime: boolean,
    key: Buffer | undefined,
    value: Buffer | undefined,
    headerList: HeaderList,
    problem: MessagingError | undefined,
  ) {
    this.topic = topic;
    this.partition = partition;
    this.offset = offset;
    this.timestamp = timestamp;
    this.appendTime = appendTime;
    this.key = key;
    this.value = value;
    this.headerList = headerList;
    this.problem = problem;
  }

  get headers(): Readonly<Record<string, Buffer>> {
    if (this.#headers === undefined) {
      const { names, values } = this.headerList;
      const headers: Record<string, Buffer> = Object.create(null);
      for (const [index, name] of names.entries()) headers[name] = values[index] as Buffer;
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
