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
 * The key of a dead letter: `<message id>.<digest of the content>.<one of its own>`.
 *
 * Equal up to the last dot are copies of one message: what a crash between the copy and the settlement leaves twice.
 * Readers take them for one entry. Two messages that share an id and differ in anything else are two entries.
 *
 * The end is of each record its own, so that a tombstone removes exactly the records that its writer has seen. Under a
 * key of id and content alone, a message that was sent back to its queue and failed there again would come under the key
 * of the entry that is just being removed, and the tombstone behind it would remove it unseen.
 */

const DIGEST_BYTES = 16;
const OWN_BYTES = 8;
/** With the dot before it. */
const OWN_LENGTH = 12;
const DIGEST_AND_OWN = /\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{11}$/;

/** What tells messages apart. */
type EntryContent = Pick<OutgoingMessage, "id" | "key" | "routingKey" | "headers" | "body" | "contentType">;

/** A fresh key for a message. */
export function entryKey(message: EntryContent, random: Pick<Random, "bytes">): string {
  const own = Buffer.from(random.bytes(OWN_BYTES)).toString("base64url");
  return `${asText(Buffer.from(message.id))}.${digest(message)}.${own}`;
}

function digest({ id, key, routingKey, headers, body, contentType }: EntryContent): string {
  const hash = createHash("sha256");
  // What the engine writes differs from one failure to the next.
  const given = Object.entries(userHeaders(headers)).sort(([one], [other]) => (one < other ? -1 : 1));
  hash.update(JSON.stringify([id, key ?? null, routingKey ?? null, contentType, given]));
  hash.update("\n");
  hash.update(body);
  return hash.digest().subarray(0, DIGEST_BYTES).toString("base64url");
}

/** Whether anybroker made a key, so that it is no message's. */
function isEntryKey(key: string): boolean {
  return DIGEST_AND_OWN.test(key);
}

/** What the keys of one message's copies have in common; of another sender's record its whole key. */
export function contentOf(key: string): string {
  return isEntryKey(key) ? key.slice(0, -OWN_LENGTH) : key;
}

/** A key as text: a character per byte, so that any key comes back as it was. */
export function asText(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString("latin1");
}

/** The bytes of a key that is text from {@link asText}. */
export function asBytes(key: string): Buffer {
  return Buffer.from(key, "latin1");
}

/** The one partition of a topic of dead letters. */
export const PARTITION = 0;

/** A message as a dead letter, under a fresh key of its own; the message's key goes in a header. */
export function deadLetterRecord(message: OutgoingMessage, random: Pick<Random, "bytes">): RecordToSend {
  return { ...toRecordUnder(asBytes(entryKey(message, random)), message), partition: PARTITION };
}

/** What removes the record of a key. */
export function tombstone(key: string): RecordToSend {
  return { key: asBytes(key), value: undefined, headers: [], partition: PARTITION };
}

/**
 * A dead letter as the record that its message was: without the entry's key. Its bytes are its own: those of a piece of a
 * log share its memory, so that a prefetch of such would hold a piece each.
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

/** A dead letter that stands: a message, in one record or several. */
export interface Entry {
  readonly content: string;
  /** In the order of offsets; the last is the one that is delivered. Empty once all were removed. */
  copies: readonly Copy[];
}

/**
 * The dead letters of a topic that stand, told from its records: keys and offsets only, some 250 bytes each. They are
 * taken in the order of their last copies, and requeued or finished with.
 */
export class Entries {
  /** In the order of their last copies. */
  readonly #waiting = new Map<string, Entry>();
  readonly #returned = new Map<string, Entry>();
  readonly #taken = new Map<string, Entry>();
  /** Copies that came of messages while they were taken. They may be a second life of the message, and wait for its end. */
  readonly #later = new Map<string, readonly Copy[]>();
  #next: Iterator<Entry> | undefined;

  /** How many stand. */
  get size(): number {
    let size = this.#waiting.size + this.#returned.size;
    for (const { content, copies } of this.#taken.values()) if (copies.length > 0 || this.#later.has(content)) size++;
    return size;
  }

  /** A record with a body. Must be called in the order of offsets. */
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
    // It goes to the end of the order.
    if (before !== undefined) this.#waiting.delete(content);
    this.#waiting.set(content, { content, copies: added(before?.copies ?? [], copy) });
  }

  /** A tombstone. */
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

  /** The next that nobody has; those requeued come first. */
  take(): Entry | undefined {
    const entry = this.#returned.values().next().value ?? this.#nextWaiting();
    if (entry === undefined) return undefined;
    this.#returned.delete(entry.content);
    this.#waiting.delete(entry.content);
    this.#taken.set(entry.content, entry);
    return entry;
  }

  /** The one that a record of this key belongs to; for those who only look. */
  find(key: string): Entry | undefined {
    return this.#waiting.get(contentOf(key));
  }

  /** All, in order; for those who only look. */
  *[Symbol.iterator](): Iterator<Entry> {
    yield* this.#waiting.values();
  }

  /** It was not done with. */
  requeue(entry: Entry): void {
    const { content } = entry;
    if (this.#taken.get(content) !== entry) return;
    this.#taken.delete(content);
    entry.copies = [...entry.copies, ...(this.#later.get(content) ?? [])];
    this.#later.delete(content);
    if (entry.copies.length > 0) this.#returned.set(content, entry);
  }

  /** It was removed. Copies that came meanwhile are an entry of their own from now on. */
  finish(entry: Entry): void {
    const { content } = entry;
    if (this.#taken.get(content) !== entry) return;
    this.#taken.delete(content);
    const copies = this.#later.get(content);
    this.#later.delete(content);
    if (copies !== undefined) this.#waiting.set(content, { content, copies });
  }

  #keepLater(content: string, copies: readonly Copy[]): void {
    if (copies.length > 0) this.#later.set(content, copies);
    else this.#later.delete(content);
  }

  /** A new iterator would step over all that was deleted at the front, each time; one goes on behind it. */
  #nextWaiting(): Entry | undefined {
    this.#next ??= this.#waiting.values();
    const { done, value } = this.#next.next();
    if (!done) return value;
    this.#next = undefined;
    return undefined;
  }
}

function added(copies: readonly Copy[], copy: Copy): readonly Copy[] {
  return copies.length === 0 ? [copy] : [...without(copies, copy.key), copy];
}

function without(copies: readonly Copy[], key: string): readonly Copy[] {
  return copies.some((copy) => copy.key === key) ? copies.filter((copy) => copy.key !== key) : copies;
}

/**
 * For how long Kafka must keep a tombstone, in milliseconds (`delete.retention.ms`): a day.
 *
 * A reader that read a record and not yet its tombstone, when that is taken out of the log, would take the record for
 * standing. Kafka takes a tombstone out no sooner than this long after it took out the record; so a reader is safe that
 * gets from any record to the end of the log in less.
 */
export const TOMBSTONE_RETENTION_MS = 24 * 60 * 60 * 1000;

/** A reader that did not come to the end of the log for so long begins anew. */
export const STALE_AFTER_MS = TOMBSTONE_RETENTION_MS / 2;

/** How a topic of dead letters has to be configured, and what of it must not be otherwise. */
export const DEAD_LETTERS_CONFIGURATION: Readonly<Record<string, string>> = Object.freeze({
  /** Required, and alone: with `delete` in it Kafka would delete by age what nobody has seen. */
  "cleanup.policy": "compact",
  /** Required to be as long or longer. */
  "delete.retention.ms": String(TOMBSTONE_RETENTION_MS),
  /** Bodies of removed entries go from the disk within a day or two, and readers need not read over them. */
  "segment.ms": String(TOMBSTONE_RETENTION_MS),
  "max.compaction.lag.ms": String(TOMBSTONE_RETENTION_MS),
  "min.cleanable.dirty.ratio": "0.1",
});

/** Compacted topics refuse them; so this one is none. */
export function keyless({ topic, partition }: TopicPartition, offset: number): MessagingError {
  return new MessagingError(
    "invalid",
    `offset ${offset} of "${topic}", partition ${partition}, has no key and is passed over: it could not be removed. The topic has to have cleanup.policy=compact`,
  );
}

/** Dead letters may stand in it, and removals. */
export function unreadableEntries({ topic }: TopicPartition, { error }: UnreadableBatch): MessagingError {
  return new MessagingError(
    error.code,
    `dead letters in "${topic}" cannot be read and are passed over; they stay there`,
    {
      cause: error,
    },
  );
}
