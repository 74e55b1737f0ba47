import type { OutgoingMessage } from "../../../core/adapter.ts";
import { MessagingError } from "../../../core/errors.ts";
import { HEADER, headerBytes, withHeaders } from "../../../core/system-headers.ts";
import type { HeldRecord } from "../consuming/contract.ts";
import { partitionKey } from "../consuming/owned-partition.ts";
import type { TopicPartition } from "../port.ts";
import type { LogRecord } from "../records/contract.ts";
import { notThere } from "./body-reader.ts";
import type { Log } from "./contract.ts";
import { asText } from "./entry-key.ts";
import { readThrough } from "./read-through.ts";

const WAIT_MS = 500;
const MOST_IDLE = 20;
const LONGEST_ID = 1_000;
const TEXT = "application/json";

/** Where the records are that a dead letter stands for. */
export interface Reference extends TopicPartition {
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

/** Where a held record is. */
export function referenceTo({ topic, partition, record }: HeldRecord, filter: string | undefined): Reference {
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
  const id = letter.id.length > LONGEST_ID ? `${topic}-${partition}-${offset}` : letter.id;
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
  const standing = new Map<string, Reference>();
  try {
    await readThrough(log, ({ key, value, headers }) => {
      if (key === undefined) return;
      const refers = value !== undefined && headers[HEADER.deadReference] !== undefined;
      const reference = refers ? readReference(value) : undefined;
      if (reference === undefined) standing.delete(asText(key));
      else standing.set(asText(key), reference);
    });
  } finally {
    await log.close();
  }
  const lowest = new Map<string, number>();
  for (const reference of standing.values()) {
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
      if (idle > MOST_IDLE) throw notThere(log, position);
      position = piece.nextOffset;
    }
  } finally {
    await log.close();
  }
  const [first] = found;
  // Where the topic was made again, others have their offsets.
  if (first === undefined || (first.offset === offset && first.timestamp !== timestamp)) throw gone(reference);
  return found;
}

function gone({ topic, partition, offset }: Reference): MessagingError {
  return new MessagingError(
    "not-found",
    `what a dead letter refers to is gone: offset ${offset} of "${topic}", partition ${partition}, was deleted, or is of another topic by now; discard the dead letter`,
  );
}
