import type { OutgoingMessage } from "../../../core/adapter.ts";
import { describeAddress, type WorkAddress } from "../../../core/address.ts";
import { clean } from "../../../core/consume/copies.ts";
import { MessagingError } from "../../../core/errors.ts";
import type { DeadLetterReason } from "../../../core/events.ts";
import { thrownClass, thrownText } from "../../../core/foreign.ts";
import { HEADER, headerBytes, withHeaders } from "../../../core/system-headers.ts";
import type { DeliveredRecord } from "../consuming/partition-ledger.ts";
import { partitionKey, recordId, replacedMeanwhile } from "../names.ts";
import type { TopicId, TopicPartition } from "../port.ts";
import type { LogRecord } from "../records/contract.ts";
import type { Log, Piece } from "./partition-log.ts";
import { asText, type Copy, Entries, restoredRecord } from "./records.ts";

const BODY_WAIT_MS = 500;

/** A record, or `gone` if it does not exist any more. */
type Found = { readonly record: LogRecord } | { readonly gone: MessagingError | undefined };

/** Reads records by offset. Keeps the last parts read, so that reads in order need few requests. */
export class BodyReader {
  readonly #log: Log;
  /** The topic of the offsets. */
  #topicId: TopicId | undefined;
  #offered: CachedPiece | undefined;
  #read: CachedPiece | undefined;

  constructor(log: Log) {
    this.#log = log;
  }

  /** Takes over a part that was read elsewhere, in place of the previous one. */
  offer(from: number, piece: Piece): void {
    this.#offered = new CachedPiece(from, piece);
  }

  /** The record, if a kept part covers the offset. */
  kept(offset: number): Found | undefined {
    return this.#read?.find(offset) ?? this.#offered?.find(offset);
  }

  /** As {@link kept}, but reads if needed. Rejects if that fails. */
  async find(offset: number): Promise<Found> {
    const kept = this.kept(offset);
    if (kept !== undefined) return kept;
    const piece = await this.#log.read(offset, BODY_WAIT_MS);
    this.#checkTopic();
    if (piece === "out-of-range") {
      // Deleted; otherwise the broker does not have it yet, or any more.
      const first = await this.#log.first();
      this.#checkTopic();
      if (offset < first) return { gone: undefined };
      throw notThere(this.#log, offset);
    }
    this.#read = new CachedPiece(offset, piece);
    const found = this.#read.find(offset);
    if (found !== undefined) return found;
    const { unreadable } = piece;
    // Brokers also answer with nothing if a quota is used up.
    if (unreadable === undefined) throw notThere(this.#log, offset);
    if (unreadable.resumeAt === undefined) throw unreadable.error;
    return { gone: unreadable.error };
  }

  /** An offset of another topic is another record. */
  #checkTopic(): void {
    const { topic, topicId } = this.#log;
    this.#topicId ??= topicId;
    if (topicId !== this.#topicId) throw replacedMeanwhile(topic);
  }
}

/** A record exists, but was not in the answer. */
function notThere({ topic, partition }: Log, offset: number): MessagingError {
  const text = `offset ${offset} of "${topic}", partition ${partition}, did not come; try again`;
  return new MessagingError("unreachable", text);
}

class CachedPiece {
  readonly #from: number;
  readonly #piece: Piece;
  /** The index of the last record found. */
  #index = 0;

  constructor(from: number, piece: Piece) {
    this.#from = from;
    this.#piece = piece;
  }

  find(offset: number): Found | undefined {
    const { records, nextOffset } = this.#piece;
    if (offset < this.#from || offset >= nextOffset) return undefined;
    if ((records[this.#index]?.offset ?? Number.POSITIVE_INFINITY) > offset) this.#index = 0;
    while ((records[this.#index]?.offset ?? Number.POSITIVE_INFINITY) < offset) this.#index++;
    const record = records[this.#index];
    return record?.offset === offset ? { record } : { gone: undefined };
  }
}

const THROUGH_WAIT_MS = 500;
const MAX_IDLE_READS = 20;

/**
 * Reads a log once, from its beginning to its end at the time of the call. Skips batches that this process cannot read,
 * and ends early where an open transaction hides the rest. Then it resolves with the reason: `unreachable` for the
 * transaction. Rejects for batches that another reader may be able to read.
 */
export async function readThrough(log: Log, visit: (record: LogRecord) => void): Promise<MessagingError | undefined> {
  let position = await log.first();
  // A new leader may answer a fetch before it knows all confirmed records, but not this request.
  const end = await log.end();
  let unread: MessagingError | undefined;
  for (let idle = 0; position < end; ) {
    const piece = await log.read(position, idle === 0 ? 0 : THROUGH_WAIT_MS);
    if (piece === "out-of-range") {
      throw new MessagingError("conflict", `"${log.topic}" was made anew or cut while it was read; try again`);
    }
    for (const record of piece.records) visit(record);
    const before = position;
    unread ??= piece.unreadable?.error;
    position = piece.unreadable === undefined ? piece.nextOffset : resumeAt(piece.unreadable);
    if (piece.openTransaction && position >= piece.end) return hidden(log, position);
    // Empty answers also mean a used-up quota.
    idle = position > before ? 0 : idle + 1;
    if (idle > MAX_IDLE_READS) throw notThere(log, position);
  }
  return unread;
}

/** A foreign producer has not ended its transaction yet. */
function hidden({ topic, partition }: Log, offset: number): MessagingError {
  const text = `an open transaction of another client hides "${topic}", partition ${partition}, from offset ${offset} on; end it, or wait for its timeout`;
  return new MessagingError("unreachable", text);
}

function resumeAt({ resumeAt: position, error }: { resumeAt: number | undefined; error: MessagingError }): number {
  if (position === undefined) throw error;
  return position;
}

const WAIT_MS = 500;
const MAX_IDLE = 20;
const MAX_ID = 1_000;
const TEXT = "application/json";

/** The records that a dead letter refers to. */
interface Reference extends TopicPartition {
  readonly offset: number;
  /** Equal to `offset` for a single record. */
  readonly lastOffset: number;
  /** How many records, as far as known. */
  readonly records: number;
  /** The time of the first record, which distinguishes it from the same offset of another log. Milliseconds since 1970. */
  readonly timestamp: number;
  /** The subscription's filter of routing keys. */
  readonly filter?: string | undefined;
}

/** The reference to a delivered record. */
export function referenceTo({ topic, partition, record }: DeliveredRecord, filter: string | undefined): Reference {
  const { offset, timestamp, unreadable } = record;
  const { lastOffset = offset, records = 1 } = unreadable ?? {};
  const of = { topic, partition, offset, lastOffset, records, timestamp };
  return filter === undefined || unreadable === undefined ? of : { ...of, filter };
}

/** Makes a dead letter that refers to records instead of containing one. */
export function referringLetter(letter: OutgoingMessage, reference: Reference): OutgoingMessage {
  const { topic, partition, offset, lastOffset } = reference;
  const place = `${topic}/${partition}/${offset}${lastOffset === offset ? "" : `-${lastOffset}`}`;
  const body = Buffer.from(JSON.stringify({ refersTo: reference }));
  // The referenced record is complete, so nothing is cut.
  const headers = withHeaders(letter.headers, { [HEADER.deadReference]: place, [HEADER.cut]: undefined });
  // The id is part of the entry's key, and foreign ids may have any length.
  const id = letter.id.length > MAX_ID ? recordId(reference, offset) : letter.id;
  return { ...letter, id, headers, body, contentType: TEXT, size: body.length + headerBytes(headers) };
}

/** The dead letter of a batch that the adapter found unreadable before it became a message; it refers to the batch. */
export function unreadableLetter(delivered: DeliveredRecord, of: WorkAddress, now: number): OutgoingMessage {
  const { record } = delivered;
  const at = new Date(now).toISOString();
  const letter: OutgoingMessage = {
    id: recordId(delivered, record.offset),
    key: undefined,
    routingKey: undefined,
    headers: {
      [HEADER.deadReason]: "invalid" satisfies DeadLetterReason,
      [HEADER.deadOrigin]: describeAddress(of),
      [HEADER.deadErrorClass]: thrownClass(record.unreadable?.error),
      [HEADER.deadError]: clean(thrownText(record.unreadable?.error)),
      [HEADER.deadAttempts]: "0",
      [HEADER.deadFirstAt]: at,
      [HEADER.deadLastAt]: at,
    },
    body: Buffer.alloc(0),
    contentType: undefined,
    size: 0,
    priority: 0,
    delayMs: 0,
    ttlMs: undefined,
  };
  return referringLetter(letter, referenceTo(delivered, undefined));
}

/** Parses the body of such a dead letter; undefined for other bodies. */
export function readReference(body: Uint8Array): Reference | undefined {
  try {
    const { refersTo } = JSON.parse(Buffer.from(body).toString()) as { readonly refersTo?: Partial<Reference> };
    const { topic, partition, offset, lastOffset, records, timestamp, filter } = refersTo ?? {};
    const numbers = [partition, offset, lastOffset, records].every(Number.isSafeInteger);
    // A foreign timestamp may be in nanoseconds.
    const isTime = Number.isInteger(timestamp);
    const isReference =
      typeof topic === "string" && numbers && isTime && (filter === undefined || typeof filter === "string");
    return isReference ? (refersTo as Reference) : undefined;
  } catch {
    return undefined;
  }
}

/** The lowest referenced offset of each partition. Rejects if it cannot read every record. Reads and closes the log. */
export async function lowestReferences(log: Log): Promise<ReadonlyMap<string, number>> {
  const references = new Map<string, Reference>();
  try {
    const unread = await readThrough(log, ({ key, value, headers }) => {
      if (key === undefined) return;
      const refers = value !== undefined && headers[HEADER.deadReference] !== undefined;
      const reference = refers ? readReference(value) : undefined;
      if (reference === undefined) references.delete(asText(key));
      else references.set(asText(key), reference);
    });
    // What was not read may refer to records that would be deleted.
    if (unread !== undefined) throw unread;
  } finally {
    await log.close();
  }
  const lowest = new Map<string, number>();
  for (const reference of references.values()) {
    const place = partitionKey(reference);
    lowest.set(place, Math.min(lowest.get(place) ?? reference.offset, reference.offset));
  }
  return lowest;
}

/**
 * Reads the records that a dead letter refers to, in order. Rejects with `not-found` if they are gone. Closes the log.
 */
export async function referredRecords(log: Log, reference: Reference): Promise<readonly LogRecord[]> {
  const { offset, lastOffset, timestamp } = reference;
  const found: LogRecord[] = [];
  try {
    let position = offset;
    for (let idle = 0; position <= lastOffset; ) {
      const piece = await log.read(position, WAIT_MS);
      if (piece === "out-of-range") throw gone(reference);
      for (const record of piece.records) if (record.offset <= lastOffset) found.push(record);
      if (piece.unreadable !== undefined && piece.nextOffset <= lastOffset) throw piece.unreadable.error;
      if (piece.end <= lastOffset && (await endsBefore(log, lastOffset))) throw beyond(reference);
      idle = piece.nextOffset > position ? 0 : idle + 1;
      if (idle > MAX_IDLE) throw notThere(log, position);
      position = piece.nextOffset;
    }
  } finally {
    await log.close();
  }
  const [first] = found;
  // In a recreated topic, other records have these offsets.
  if (first === undefined || (first.offset === offset && first.timestamp !== timestamp)) throw gone(reference);
  return found;
}

/** Whether there is no such offset. A new leader that does not know yet how far its log is confirmed still has what is. */
async function endsBefore(log: Log, offset: number): Promise<boolean> {
  return (await log.read(Math.min(offset + 1, Number.MAX_SAFE_INTEGER), 0)) === "out-of-range";
}

/** A foreign sender wrote the dead letter, or the log was cut. */
function beyond({ topic, partition, lastOffset }: Reference): MessagingError {
  return new MessagingError(
    "not-found",
    `what a dead letter refers to is gone: "${topic}", partition ${partition}, ends before offset ${lastOffset}; discard the dead letter`,
  );
}

function gone({ topic, partition, offset }: Reference): MessagingError {
  return new MessagingError(
    "not-found",
    `what a dead letter refers to is gone: offset ${offset} of "${topic}", partition ${partition}, was deleted, or is of another topic by now; discard the dead letter`,
  );
}

/** A dead letter found by a scan. */
export interface DeadLetterEntry {
  /** Its name for {@link DeadLettersScan.keysOf}. A message that is dead-lettered again has another. */
  readonly key: string;
  /** Its position in the order; the next page starts behind it. */
  readonly offset: number;
  readonly record: LogRecord;
}

/** Scans the dead letters without consuming them. Keeps keys and offsets in memory, not bodies. */
export class DeadLettersScan {
  /** Why some dead letters are missing here; undefined if none is. */
  readonly unread: MessagingError | undefined;
  readonly #log: Log;
  readonly #entries: Entries;

  private constructor(log: Log, entries: Entries, unread: MessagingError | undefined) {
    this.#log = log;
    this.#entries = entries;
    this.unread = unread;
  }

  /** Reads the log once to its end. The log must stay open. */
  static async of(log: Log): Promise<DeadLettersScan> {
    const entries = new Entries();
    const unread = await readThrough(log, ({ key, value, offset }) => {
      if (key === undefined) return;
      if (value === undefined) entries.remove(asText(key));
      else entries.put(asText(key), offset);
    });
    return new DeadLettersScan(log, entries, unread);
  }

  /** The number of entries. */
  get size(): number {
    return this.#entries.size;
  }

  /** The entries behind an offset, in order. Entries removed meanwhile are left out. */
  async *entries(behind = -1): AsyncGenerator<DeadLetterEntry, void, undefined> {
    const bodies = new BodyReader(this.#log);
    for (const { copies } of this.#entries) {
      const { key, offset } = copies.at(-1) as Copy;
      if (offset <= behind) continue;
      const found = await bodies.find(offset);
      if ("record" in found) yield { key, offset, record: restoredRecord(found.record) };
      else if (found.gone !== undefined) throw found.gone;
    }
  }

  /** The keys to remove for an entry to be gone: its records up to the one named. Empty if it is gone. */
  keysOf(key: string): readonly string[] {
    const copies = this.#entries.find(key)?.copies ?? [];
    return copies.slice(0, copies.findIndex((copy) => copy.key === key) + 1).map((copy) => copy.key);
  }
}

/** Counts the dead letters at one moment. `unread` says why some are missing. Reads and closes the log. */
export async function countDeadLetters(log: Log): Promise<Pick<DeadLettersScan, "size" | "unread">> {
  try {
    return await DeadLettersScan.of(log);
  } finally {
    await log.close();
  }
}
