import { SYSTEM_PREFIX } from "../../../core/system-headers.ts";
import type { RecordToSend } from "../producing/producer.ts";
import type { HeaderToWrite, LogRecord } from "../records/contract.ts";
import { headerList, writtenValue } from "../records/read.ts";

/*
 * A delayed message waits in the partition of its level. Level 0 holds messages that are due within a second, level 1
 * those with at least 1 s, level 2 at least 4 s, and so on to 4,096 s. All messages of a level wait equally long, so
 * none waits behind a longer delay. Then less time remains, and the message moves to a lower level or the same one
 * again.
 *
 * A delay D takes at most 3 hops at each of the levels 1 to 6, D / 4,096 s at level 7, and one at level 0.
 */

/** The number of levels: the partitions of a delays topic. */
export const LEVELS = 8;

const FIRST_MS = 1_000;
const FACTOR = 4;

/** How long a message waits at a level at least, in milliseconds. At level 0 it waits until it is due. */
export function levelMs(level: number): number {
  return level === 0 ? 0 : FIRST_MS * FACTOR ** (level - 1);
}

/** The highest level whose wait fits into the remaining time. */
export function levelFor(remainingMs: number): number {
  let level = 0;
  while (level < LEVELS - 1 && levelMs(level + 1) <= remainingMs) level++;
  return level;
}

/** What decides how long a message stays at its level, in milliseconds since 1970. */
interface Stay {
  readonly level: number;
  /** When the message is due. */
  readonly dueAt: number;
  /** When it was sent to this level, by the sender's clock. */
  readonly since: number;
  /** When this process received it, by its own clock. */
  readonly receivedAt: number;
}

/**
 * When a message leaves its level: when it is due, or after the level's time; of level 0 that is the wait of the next
 * level. That time counts from its receipt at the latest, so that a sender's fast clock does not hold it up, nor those
 * behind it.
 */
export function leavesAt({ level, dueAt, since, receivedAt }: Stay): number {
  return Math.min(dueAt, Math.min(since, receivedAt) + levelMs(Math.max(level, 1)));
}

/**
 * The due time of a message delayed from now on. Adds a millisecond, since times are truncated, so that it is never
 * early.
 */
export function dueAfter(now: number, delayMs: number): number {
  return now + delayMs + 1;
}

/** The due time of a waiting record, when it reached its level, and its chosen partition. */
export const DELAY_HEADER = `${SYSTEM_PREFIX}delay`;

const DELAY = /^(\d{1,16}) (\d{1,16})(?: (\d{1,10}))?$/;

/** The delay of a waiting record, in milliseconds since 1970. */
export interface Delay {
  readonly dueAt: number;
  /** When it was sent to its level. */
  readonly since: number;
  /** The chosen partition of the destination; undefined to leave it to the key. */
  readonly partition: number | undefined;
}

/** A record for the delays topic, at the level of the remaining time. Key, body and headers stay the same. */
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

/** The delay of a record in the delays topic; undefined for a foreign record. */
export function delayOf(record: LogRecord): Delay | undefined {
  const [, dueAt, since, partition] = DELAY.exec(record.headers[DELAY_HEADER]?.toString() ?? "") ?? [];
  if (dueAt === undefined) return undefined;
  return {
    dueAt: Number(dueAt),
    since: Number(since),
    partition: partition === undefined ? undefined : Number(partition),
  };
}

/** The record as it was before the delay. */
export function undelayedRecord(record: LogRecord, partition: number | undefined): RecordToSend {
  const headers: HeaderToWrite[] = [];
  const { names, values } = headerList(record);
  for (const [index, name] of names.entries()) {
    if (name !== DELAY_HEADER) headers.push([name, writtenValue(values[index] as Buffer)]);
  }
  const { key, value } = record;
  return partition === undefined ? { key, value, headers } : { key, value, headers, partition };
}
