import { SYSTEM_PREFIX } from "../../../core/system-headers.ts";
import type { RecordToSend } from "../producing/contract.ts";
import type { HeaderToWrite, LogRecord } from "../records/contract.ts";
import { headerList, writtenValue } from "../records/header-list.ts";
import { levelFor } from "./levels.ts";

/** When a waiting record is due, since when it is at its level, and its partition where one was chosen. */
export const DELAY_HEADER = `${SYSTEM_PREFIX}delay`;

const DELAY = /^(\d{1,16}) (\d{1,16})(?: (\d{1,10}))?$/;

/** What a waiting record says about its delay. Times of day, in milliseconds since 1970. */
export interface Delay {
  readonly dueAt: number;
  /** When it was sent to the level at which it stands. */
  readonly since: number;
  /** The partition of the destination, where it is not left to the key. */
  readonly partition: number | undefined;
}

/** The record as it goes to the topic of delays, to the level of what remains. Key, body and headers stay as they are. */
export function delayedRecord(record: RecordToSend, dueAt: number, now: number): RecordToSend {
  const { key, value, headers, partition } = record;
  const words = partition === undefined ? [dueAt, now] : [dueAt, now, partition];
  return {
    key,
    value,
    headers: [...headers, [DELAY_HEADER, words.join(" ")]],
    partition: levelFor(dueAt - now),
  };
}

/** What a record in the topic of delays says; undefined where somebody else wrote it. */
export function delayOf(record: LogRecord): Delay | undefined {
  const [, dueAt, since, partition] = DELAY.exec(record.headers[DELAY_HEADER]?.toString() ?? "") ?? [];
  if (dueAt === undefined) return undefined;
  return {
    dueAt: Number(dueAt),
    since: Number(since),
    partition: partition === undefined ? undefined : Number(partition),
  };
}

/** The record as it was before it was delayed. */
export function undelayedRecord(record: LogRecord, partition: number | undefined): RecordToSend {
  const headers: HeaderToWrite[] = [];
  const { names, values } = headerList(record);
  for (const [index, name] of names.entries()) {
    if (name !== DELAY_HEADER) headers.push([name, writtenValue(values[index] as Buffer)]);
  }
  const { key, value } = record;
  return partition === undefined ? { key, value, headers } : { key, value, headers, partition };
}
