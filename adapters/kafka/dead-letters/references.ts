import type { OutgoingMessage } from "../../../core/adapter.ts";
import { MessagingError } from "../../../core/errors.ts";
import { HEADER, headerBytes, withHeaders } from "../../../core/system-headers.ts";
import { partitionKey } from "../consuming/assigned-partition.ts";
import type { DeliveredRecord } from "../consuming/partition-ledger.ts";
import type { TopicId, TopicPartition } from "../port.ts";
import type { LogRecord } from "../records/contract.ts";
import { replacedMeanwhile } from "../topic-identity.ts";
import type { Log, Piece } from "./partition-log.ts";
import { asText, type Copy, Entries, restoredRecord } from "./records.ts";

const BODY_WAIT_MS = 500;

/** A record, or why there is none: `gone` if it does not stand there any more. */
type Found = { readonly record: LogRecord } | { readonly gone: MessagingError | undefined };

/** Gets records by their offsets. It keeps pieces that were read, so that those in order are read once. */
export class BodyReader {
  readonly #log: Log;
  /** The topic that the offsets are of. */
  #topicId: TopicId | undefined;
  #offered: CachedPiece | undefined;
  #read: CachedPiece | undefined;

  constructor(log: Log) {
    this.#log = log;
  }

  /** A piece that was read from an offset elsewhere; it takes the place of the last such. */
  offer(from: number, piece: Piece): void {
    this.#offered = new CachedPiece(from, piece);
  }

  /** The record if it stands in what is kept; undefined if that says nothing about the offset. */
  kept(offset: number): Found | undefined {
    return this.#read?.find(offset) ?? this.#offered?.find(offset);
  }

  /** As {@link kept}, and reads a piece if need be. Rejects if that fails. */
  async find(offset: number): Promise<Found> {
    const kept = this.kept(offset);
    if (kept !== undefined) return kept;
    const piece = await this.#log.read(offset, BODY_WAIT_MS);
    this.#checkTopic();
    if (piece === "out-of-range") {
      // Deleted by somebody; else the broker that was asked does not have it yet, or any more.
      const first = await this.#log.first();
      this.#checkTopic();
      if (offset < first) return { gone: undefined };
      throw notThere(this.#log, offset);
    }
    this.#read = new CachedPiece(offset, piece);
    const found = this.#read.find(offset);
    if (found !== undefined) return found;
    const { unreadable } = piece;
    // A broker answers with nothing, too, to one who asks for more than its quota allows.
    if (unreadable === undefined) throw notThere(this.#log, offset);
    if (unreadable.resumeAt === undefined) throw unreadable.error;
    return { gone: unreadable.error };
  }

  /** At the same offset of another topic is another record. */
  #checkTopic(): void {
    const { topic, topicId } = this.#log;
    this.#topicId ??= topicId;
    if (topicId !== this.#topicId) throw replacedMeanwhile(topic);
  }
}

/** That there is something at an offset was known, and it was not in the answer. */
function notThere({ topic, partition }: Log, offset: number): MessagingError {
  const text = `offset ${offset} of "${topic}", partition ${partition}, did not come; try again`;
  return new MessagingError("unreachable", text);
}

class CachedPiece {
  readonly #from: number;
  readonly #piece: Piece;
  /** The index of the record that was last looked for. */
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
 * Reads a log once, from its beginning to an offset, or else to where its end is when it gets there. Batches that are
 * damaged are passed over; rejects for what another reader may be able to read.
 */
export async function readThrough(log: Log, visit: (record: LogRecord) => void, to?: number): Promise<void> {
  let position = await log.first();
  for (let idle = 0; ; ) {
    const piece = await log.read(position, idle === 0 ? 0 : THROUGH_WAIT_MS);
    if (piece === "out-of-range") {
      throw new MessagingError("conflict", `"${log.topic}" was made anew or cut while it was read; try again`);
    }
    for (const record of piece.records) visit(record);
    const before = position;
    position = piece.unreadable === undefined ? piece.nextOffset : resumeAt(piece.unreadable);
    if (position >= (to ?? piece.end)) return;
    // Nothing comes, too, to one who asks for more than its quota allows.
    idle = position > before ? 0 : idle + 1;
    if (idle > MAX_IDLE_READS) throw notThere(log, position);
  }
}

function resumeAt({ resumeAt: position, error }: { resumeAt: number | undefined; error: MessagingError }): number {
  if (position === undefined) throw error;
  return position;
}

const WAIT_MS = 500;
const MAX_IDLE = 20;
const MAX_ID = 1_000;
const TEXT = "application/json";

/** Where the records are that a dead letter stands for. */
interface Reference extends TopicPartition {
  readonly offset: number;
  /** The same for a single record. */
  readonly lastOffset: number;
  /** How many there are, as far as could be told. */
  readonly records: number;
  /** The time of the first of them, by which the same offset in another log is told from it. Milliseconds since 1970. */
  readonly timestamp: number;
  /** What of them the subscription asked for: a filter of routing keys. */
  readonly filter?: string | undefined;
}

/** Where a delivered record is. */
export function referenceTo({ topic, partition, record }: DeliveredRecord, filter: string | undefined): Reference {
  const { offset, timestamp, unreadable } = record;
  const { lastOffset = offset, records = 1 } = unreadable ?? {};
  const of = { topic, partition, offset, lastOffset, records, timestamp };
  return filter === undefined || unreadable === undefined ? of : { ...of, filter };
}

/** The dead letter that refers to records instead of holding them; it has the headers of another one for them. */
export function referringLetter(letter: OutgoingMessage, reference: Reference): OutgoingMessage {
  const { topic, partition, offset, lastOffset } = reference;
  const place = `${topic}/${partition}/${offset}${lastOffset === offset ? "" : `-${lastOffset}`}`;
  const body = Buffer.from(JSON.stringify({ refersTo: reference }));
  // What was cut of the letter is where it refers to.
  const headers = withHeaders(letter.headers, { [HEADER.deadReference]: place, [HEADER.cut]: undefined });
  // The id is a part of the entry's key, and other senders may write ids of any length.
  const id = letter.id.length > MAX_ID ? `${topic}-${partition}-${offset}` : letter.id;
  return { ...letter, id, headers, body, contentType: TEXT, size: body.length + headerBytes(headers) };
}

/** What the body of such a dead letter says; undefined if it says nothing of the kind. */
export function readReference(body: Uint8Array): Reference | undefined {
  try {
    const { refersTo } = JSON.parse(Buffer.from(body).toString()) as { readonly refersTo?: Partial<Reference> };
    const { topic, partition, offset, lastOffset, records, timestamp, filter } = refersTo ?? {};
    const numbers = [partition, offset, lastOffset, records].every(Number.isSafeInteger);
    // Another sender's time may be in nanoseconds.
    const isTime = Number.isInteger(timestamp);
    const isReference =
      typeof topic === "string" && numbers && isTime && (filter === undefined || typeof filter === "string");
    return isReference ? (refersTo as Reference) : undefined;
  } catch {
    return undefined;
  }
}

/** The lowest offset that the dead letters in a log refer to, by partition. Reads all of it, and closes it. */
export async function lowestReferences(log: Log): Promise<ReadonlyMap<string, number>> {
  const references = new Map<string, Reference>();
  try {
    await readThrough(log, ({ key, value, headers }) => {
      if (key === undefined) return;
      const refers = value !== undefined && headers[HEADER.deadReference] !== undefined;
      const reference = refers ? readReference(value) : undefined;
      if (reference === undefined) references.delete(asText(key));
      else references.set(asText(key), reference);
    });
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

/** The records that a dead letter refers to, in order. Rejects with `not-found` if they are gone. Closes the log. */
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
      idle = piece.nextOffset > position ? 0 : idle + 1;
      if (idle > MAX_IDLE) throw notThere(log, position);
      position = piece.nextOffset;
    }
  } finally {
    await log.close();
  }
  const [first] = found;
  // Where the topic was recreated, others have their offsets.
  if (first === undefined || (first.offset === offset && first.timestamp !== timestamp)) throw gone(reference);
  return found;
}

function gone({ topic, partition, offset }: Reference): MessagingError {
  return new MessagingError(
    "not-found",
    `what a dead letter refers to is gone: offset ${offset} of "${topic}", partition ${partition}, was deleted, or is of another topic by now; discard the dead letter`,
  );
}

/** A dead letter that stands, looked at without taking it. */
export interface DeadLetterEntry {
  /** What names it, for {@link DeadLettersScan.keysOf}: of a message that comes here anew it is another. */
  readonly key: string;
  /** Where it stands in the order of all; a page goes on behind it. */
  readonly offset: number;
  readonly record: LogRecord;
}

/**
 * What stood in the dead letters when it was read, whoever receives them meanwhile. Its memory holds keys and offsets, not
 * bodies.
 */
export class DeadLettersScan {
  readonly #log: Log;
  readonly #entries: Entries;

  private constructor(log: Log, entries: Entries) {
    this.#log = log;
    this.#entries = entries;
  }

  /** Reads the log once, from its beginning to where its end is when it gets there. The log has to stay open. */
  static async of(log: Log): Promise<DeadLettersScan> {
    const entries = new Entries();
    await readThrough(log, ({ key, value, offset }) => {
      if (key === undefined) return;
      if (value === undefined) entries.remove(asText(key));
      else entries.put(asText(key), offset);
    });
    return new DeadLettersScan(log, entries);
  }

  /** How many stand. */
  get size(): number {
    return this.#entries.size;
  }

  /**
   * The entries behind an offset, in order, as they are read. Those removed meanwhile are left out.
   */
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

  /**
   * All that has to be removed for an entry to be gone: the keys of its records up to the one named. Empty if it does not
   * stand any more.
   */
  keysOf(key: string): readonly string[] {
    const copies = this.#entries.find(key)?.copies ?? [];
    return copies.slice(0, copies.findIndex((copy) => copy.key === key) + 1).map((copy) => copy.key);
  }
}

/** How many dead letters stand, exactly, at one moment. Reads the whole log; closes it. */
export async function countDeadLetters(log: Log): Promise<number> {
  try {
    return (await DeadLettersScan.of(log)).size;
  } finally {
    await log.close();
  }
}
