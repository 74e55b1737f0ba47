import { createHash } from "node:crypto";
import type { OutgoingMessage } from "../../../core/adapter.ts";
import type { Random } from "../../../core/clock.ts";
import { MessagingError } from "../../../core/errors.ts";
import { userHeaders } from "../../../core/system-headers.ts";
import { toRecordUnder } from "../message-codec.ts";
import type { TopicPartition } from "../port.ts";
import type { RecordToSend } from "../producing/producer.ts";
import type { LogRecord, UnreadableBatch } from "../records/contract.ts";
import { CopiedHeaders, headerList } from "../records/read.ts";

/*
 * The key of a dead letter is `<message id>.<digest of the content>.<unique part>`.
 *
 * Records with the same id and digest are copies of one message, as left by a crash between copy and settlement.
 * Readers treat them as one entry. Messages that share an id but differ otherwise are different entries.
 *
 * The unique part lets a tombstone remove exactly the records that its writer saw. Otherwise a message that was
 * replayed and failed again could have the key of the entry being removed, and be removed unseen.
 */

const DIGEST_BYTES = 16;
const OWN_BYTES = 8;
/** Including the dot before it. */
const OWN_LENGTH = 12;
const DIGEST_AND_OWN = /\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{11}$/;

/** The content that identifies a message. */
type EntryContent = Pick<OutgoingMessage, "id" | "key" | "routingKey" | "headers" | "body" | "contentType">;

/** A new key for a message. */
export function entryKey(message: EntryContent, random: Pick<Random, "bytes">): string {
  const own = Buffer.from(random.bytes(OWN_BYTES)).toString("base64url");
  return `${asText(Buffer.from(message.id))}.${digest(message)}.${own}`;
}

function digest({ id, key, routingKey, headers, body, contentType }: EntryContent): string {
  const hash = createHash("sha256");
  // The engine's headers differ between failures.
  const given = Object.entries(userHeaders(headers)).sort(([one], [other]) => (one < other ? -1 : 1));
  hash.update(JSON.stringify([id, key ?? null, routingKey ?? null, contentType, given]));
  hash.update("\n");
  hash.update(body);
  return hash.digest().subarray(0, DIGEST_BYTES).toString("base64url");
}

/** Whether anybroker made the key, so that it is not a message's key. */
function isEntryKey(key: string): boolean {
  return DIGEST_AND_OWN.test(key);
}

/** The part of a key that copies share; for a foreign record, the whole key. */
export function contentOf(key: string): string {
  return isEntryKey(key) ? key.slice(0, -OWN_LENGTH) : key;
}

/** A key as text, one character per byte, so that any key survives. */
export function asText(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString("latin1");
}

/** The bytes of a key from {@link asText}. */
export function asBytes(key: string): Buffer {
  return Buffer.from(key, "latin1");
}

/** The only partition of a dead-letters topic. */
export const PARTITION = 0;

/** A message as a dead letter with a new key; the message's key is in a header. */
export function deadLetterRecord(message: OutgoingMessage, random: Pick<Random, "bytes">): RecordToSend {
  return { ...toRecordUnder(asBytes(entryKey(message, random)), message), partition: PARTITION };
}

/** A record that removes the record of a key. */
export function tombstone(key: string): RecordToSend {
  return { key: asBytes(key), value: undefined, headers: [], partition: PARTITION };
}

/**
 * Restores the message's record from a dead letter, without the entry's key. Copies the bytes: otherwise each would
 * keep a whole fetched part in memory.
 */
export function restoredRecord(record: LogRecord): LogRecord {
  const written = new CopiedHeaders(headerList(record));
  const headers: Record<string, Buffer> = Object.create(null);
  const { names, values } = written.list();
  for (const [index, name] of names.entries()) headers[name] = values[index] as Buffer;
  const { key, value } = record;
  const isOurs = key !== undefined && isEntryKey(asText(key));
  return {
    offset: record.offset,
    timestamp: record.timestamp,
    problem: record.problem,
    key: isOurs ? undefined : key && Buffer.from(key),
    value: value && Buffer.from(value),
    headers,
    written,
  };
}

/** One record of an entry. */
export interface Copy {
  readonly key: string;
  readonly offset: number;
}

/** A dead letter: a message in one or more records. */
export interface Entry {
  readonly content: string;
  /**
   * In the order of offsets; the last one is delivered. Empty once all are removed. A key that was written several times
   * may be there as often.
   */
  copies: Copy[];
}

/**
 * The current dead letters of a topic: keys and offsets only, about 250 bytes each. Entries are taken in the order of
 * their last copies, then requeued or finished.
 */
export class Entries {
  /** In the order of their last copies. */
  readonly #waiting = new Map<string, Entry>();
  readonly #returned = new Map<string, Entry>();
  readonly #taken = new Map<string, Entry>();
  /**
   * New copies of messages that are taken. They may be a later failure of the message, and wait until it is settled.
   */
  readonly #later = new Map<string, Copy[]>();
  #next: Iterator<Entry> | undefined;

  /** The number of entries. */
  get size(): number {
    let size = this.#waiting.size + this.#returned.size;
    for (const { content, copies } of this.#taken.values()) if (copies.length > 0 || this.#later.has(content)) size++;
    return size;
  }

  /** Adds a record with a body. Call in the order of offsets. */
  put(key: string, offset: number): void {
    const content = contentOf(key);
    const copy = { key, offset };
    if (this.#taken.has(content)) {
      this.#later.set(content, added(this.#later.get(content) ?? [], copy));
      return;
    }
    const returned = this.#returned.get(content);
    if (returned !== undefined) {
      returned.copies = added(returned.copies, copy);
      return;
    }
    const before = this.#waiting.get(content);
    // It moves to the end of the order.
    if (before !== undefined) this.#waiting.delete(content);
    this.#waiting.set(content, { content, copies: added(before?.copies ?? [], copy) });
  }

  /** Applies a tombstone. */
  remove(key: string): void {
    const content = contentOf(key);
    const taken = this.#taken.get(content);
    if (taken !== undefined) taken.copies = without(taken.copies, key);
    for (const entries of [this.#waiting, this.#returned]) {
      const entry = entries.get(content);
      if (entry === undefined) continue;
      entry.copies = without(entry.copies, key);
      if (entry.copies.length === 0) entries.delete(content);
    }
    const later = this.#later.get(content);
    if (later !== undefined) this.#keepLater(content, without(later, key));
  }

  /** Takes the next entry; requeued ones come first. */
  take(): Entry | undefined {
    const entry = this.#returned.values().next().value ?? this.#nextWaiting();
    if (entry === undefined) return undefined;
    this.#returned.delete(entry.content);
    this.#waiting.delete(entry.content);
    this.#taken.set(entry.content, entry);
    return entry;
  }

  /** The waiting entry that a key belongs to. */
  find(key: string): Entry | undefined {
    return this.#waiting.get(contentOf(key));
  }

  /** All waiting entries, in order. */
  *[Symbol.iterator](): Iterator<Entry> {
    yield* this.#waiting.values();
  }

  /** Makes a taken entry available again. */
  requeue(entry: Entry): void {
    const { content } = entry;
    if (this.#taken.get(content) !== entry) return;
    this.#taken.delete(content);
    entry.copies = [...entry.copies, ...(this.#later.get(content) ?? [])];
    this.#later.delete(content);
    if (entry.copies.length > 0) this.#returned.set(content, entry);
  }

  /** Ends a taken entry after its removal. Copies that came meanwhile become a new entry. */
  finish(entry: Entry): void {
    const { content } = entry;
    if (this.#taken.get(content) !== entry) return;
    this.#taken.delete(content);
    const copies = this.#later.get(content);
    this.#later.delete(content);
    if (copies !== undefined) this.#waiting.set(content, { content, copies });
  }

  #keepLater(content: string, copies: Copy[]): void {
    if (copies.length > 0) this.#later.set(content, copies);
    else this.#later.delete(content);
  }

  /** Keeps the iterator: a new one would step over all deleted entries at the front each time. */
  #nextWaiting(): Entry | undefined {
    this.#next ??= this.#waiting.values();
    const { done, value } = this.#next.next();
    if (!done) return value;
    this.#next = undefined;
    return undefined;
  }
}

/** Changes the array: one message may have very many copies. */
function added(copies: Copy[], copy: Copy): Copy[] {
  if (copies.at(-1)?.key === copy.key) copies.pop();
  copies.push(copy);
  return copies;
}

function without(copies: Copy[], key: string): Copy[] {
  return copies.some((copy) => copy.key === key) ? copies.filter((copy) => copy.key !== key) : copies;
}

/**
 * How long Kafka must keep tombstones, in milliseconds (`delete.retention.ms`): a day.
 *
 * A reader that saw a record but missed its tombstone would take the record as current. Kafka keeps a tombstone at
 * least this long after it deleted the record, so readers must get from any record to the log's end in less.
 */
export const TOMBSTONE_RETENTION_MS = 24 * 60 * 60 * 1000;

/** A reader that has not reached the log's end for this long starts over. */
export const STALE_AFTER_MS = TOMBSTONE_RETENTION_MS / 2;

/** The configuration of a dead-letters topic. */
export const DEAD_LETTERS_CONFIGURATION: Readonly<Record<string, string>> = Object.freeze({
  /** Required, without `delete`: Kafka would delete unseen entries by age. */
  "cleanup.policy": "compact",
  /** The minimum. */
  "delete.retention.ms": String(TOMBSTONE_RETENTION_MS),
  /** Bodies of removed entries are deleted within a day or two, and readers need not read them. */
  "segment.ms": String(TOMBSTONE_RETENTION_MS),
  "max.compaction.lag.ms": String(TOMBSTONE_RETENTION_MS),
  "min.cleanable.dirty.ratio": "0.1",
});

/** Compacted topics refuse records without a key, so this one is not compacted. */
export function keyless({ topic, partition }: TopicPartition, offset: number): MessagingError {
  return new MessagingError(
    "invalid",
    `offset ${offset} of "${topic}", partition ${partition}, has no key and is passed over: it could not be removed. The topic has to have cleanup.policy=compact`,
  );
}

/** The batch may hold dead letters and tombstones. */
export function unreadableEntries({ topic }: TopicPartition, { error }: UnreadableBatch): MessagingError {
  return new MessagingError(
    error.code,
    `dead letters in "${topic}" cannot be read and are passed over; they stay there`,
    {
      cause: error,
    },
  );
}
