import { SYSTEM_PREFIX } from "../../../core/system-headers.ts";
import type { RecordToSend } from "../producing/producer.ts";
import type { HeaderToWrite, LogRecord } from "../records/contract.ts";
import { headerList, writtenValue } from "../records/read.ts";

/*
 * A message that waits stands in the partition of its level. Level 0 holds those that are due within a second, level 1
 * those that wait at least 1 s, level 2 at least 4 s, and so on to 4,096 s. At a level everybody waits equally long, so
 * nobody waits behind one with a longer delay; what then remains is less, and waits at a lower level or at the same
 * one. A longer delay than the highest level's goes round there.
 *
 * Of a delay D, at most 3 hops are made at each of the levels 1 to 6, D / 4,096 s at level 7, and one at level 0.
 */

/** The number of levels: the partitions of a topic of delays. */
export const LEVELS = 8;

const FIRST_MS = 1_000;
const FACTOR = 4;

/** How long a message waits at a level, in milliseconds; 0 at level 0, where it waits until it is due. */
export function levelMs(level: number): number {
  return level === 0 ? 0 : FIRST_MS * FACTOR ** (level - 1);
}

/** The highest level whose wait is no longer than what remains. */
export function levelFor(remainingMs: number): number {
  let level = 0;
  while (level < LEVELS - 1 && levelMs(level + 1) <= remainingMs) level++;
  return level;
}

/** What decides how long a message stays at its level. Times of day, in milliseconds since 1970. */
interface Stay {
  readonly level: number;
  /** When the message is due. */
  readonly dueAt: number;
  /** When it came to this level, by the clock of who sent it there. */
  readonly since: number;
  /** When this process had it from the broker, by its own clock. */
  readonly receivedAt: number;
}

/**
 * When a message goes on from its level: once it is due, or has been there for the level's time. A sender's clock that
 * goes fast would make it, and all behind it, stay longer; so nothing stays longer than the level's time since it was
 * received.
 */
export function leavesAt({ level, dueAt, since, receivedAt }: Stay): number {
  return level === 0 ? dueAt : Math.min(dueAt, Math.min(since, receivedAt) + levelMs(level));
}

/**
 * When a message is due that is to wait so long from now. The time of day is cut to milliseconds, so that one more makes
 * sure that it is never early.
 */
export function dueAfter(now: number, delayMs: number): number {
  return now + delayMs + 1;
}

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
