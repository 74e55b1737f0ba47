import type Encoder from "kafkajs/src/protocol/encoder.js";
import type { ErrorName, TopicId, TopicPartition } from "../port.ts";
import { internals } from "./internals.ts";

/** Far more than any cluster has to say at once; each of them may become an object. */
const MAX_ITEMS = 4_000_000;

/**
 * Reads an answer, and never behind its end or backwards: throws a `RangeError` instead, whatever the bytes are. kafkajs'
 * own reader believes every length. Shares the memory of the answer.
 */
export class AnswerReader {
  readonly buffer: Buffer;
  /** For how many milliseconds the server says that it reads nothing more of this socket. */
  throttledMs = 0;
  #at = 0;
  #items = 0;

  constructor(buffer: Buffer) {
    this.buffer = buffer;
  }

  readInt8(): number {
    return this.buffer.readInt8(this.#past(1));
  }

  readInt16(): number {
    return this.buffer.readInt16BE(this.#past(2));
  }

  readInt32(): number {
    return this.buffer.readInt32BE(this.#past(4));
  }

  readInt64(): bigint {
    return this.buffer.readBigInt64BE(this.#past(8));
  }

  readBoolean(): boolean {
    return this.readInt8() === 1;
  }

  readString(): string | null {
    return this.#sized(this.readInt16())?.toString("utf8") ?? null;
  }

  readBytes(): Buffer | null {
    return this.#sized(this.readInt32());
  }

  /** Nothing where it is null. */
  readArray<Item>(read: (from: this) => Item): Item[] {
    const length = this.readInt32();
    return length === -1 ? [] : this.readItems(length, read);
  }

  /** So many items, each of a byte at the least. */
  readItems<Item>(length: number, read: (from: this) => Item): Item[] {
    this.#items += length;
    // So a wrong length costs no memory.
    if (length < 0 || length > this.buffer.length - this.#at || this.#items > MAX_ITEMS) {
      throw new RangeError(`${length} items are more than the message can hold`);
    }
    return Array.from({ length }, () => read(this));
  }

  take(length: number): Buffer {
    const start = this.#past(length);
    return this.buffer.subarray(start, this.#at);
  }

  #sized(length: number): Buffer | null {
    return length === -1 ? null : this.take(length);
  }

  /** Goes on by so many bytes, which must be there. Returns where they begin. */
  #past(length: number): number {
    const start = this.#at;
    if (length < 0 || length > this.buffer.length - start) {
      throw new RangeError(`${length} bytes are not what the message holds`);
    }
    this.#at = start + length;
    return start;
  }
}

/*
 * What the flexible versions of requests are written in: lengths as varints of one more than they are (0 stands for
 * nothing), and fields with tags behind everything, of which none is written here and all are passed over. kafkajs' own
 * readers of it read a byte too many, and believe any length.
 */

const UUID_BYTES = 16;
const MAX_VARINT_BYTES = 5;
const ZERO_ID = Buffer.alloc(UUID_BYTES).toString("base64url");

/** Writes that no fields with tags follow. */
export function writeTags(to: Encoder): void {
  to.writeUVarInt(0);
}

export function writeCompactArray<Item>(to: Encoder, items: readonly Item[], write: (item: Item) => void): void {
  to.writeUVarInt(items.length + 1);
  for (const item of items) write(item);
}

/** Writes a topic's id. Throws for what is none. */
export function writeTopicId(to: Encoder, id: TopicId): void {
  const bytes = Buffer.from(id, "base64url");
  if (bytes.length !== UUID_BYTES) throw new RangeError(`"${id}" is no id of a topic`);
  to.writeBuffer(bytes);
}

/** Writes partitions by a property of their topics. Each may be there once, or answers could not be told apart. */
export function writeCompactByTopic<Item extends { readonly partition: number }>(
  to: Encoder,
  items: readonly Item[],
  topicOf: (item: Item) => string,
  writeTopic: (topic: string) => void,
  write: (item: Item) => void,
): void {
  writeCompactArray(to, [...Map.groupBy(items, topicOf)], ([topic, partitions]) => {
    if (new Set(partitions.map(({ partition }) => partition)).size < partitions.length) {
      throw new RangeError(`a partition of ${topic} is asked for twice`);
    }
    writeTopic(topic);
    writeCompactArray(to, partitions, write);
    writeTags(to);
  });
}

/** Passes over fields with tags. */
export function skipTags(from: AnswerReader): void {
  for (let left = readVarint(from); left > 0; left--) {
    readVarint(from);
    from.take(readVarint(from));
  }
}

export function readCompactText(from: AnswerReader): string {
  return readCompactBytes(from).toString("utf8");
}

/** Nothing where it is null. Shares the memory of the answer. */
export function readCompactBytes(from: AnswerReader): Buffer {
  return from.take(Math.max(readVarint(from) - 1, 0));
}

/** Nothing where it is null. */
export function readCompactArray<Item>(from: AnswerReader, read: () => Item): Item[] {
  return from.readItems(Math.max(readVarint(from) - 1, 0), read);
}

export function readTopicId(from: AnswerReader): TopicId {
  const id = from.take(UUID_BYTES).toString("base64url");
  return id === ZERO_ID ? "" : id;
}

function readVarint(from: AnswerReader): number {
  let value = 0;
  for (let index = 0; index < MAX_VARINT_BYTES; index++) {
    const byte = from.readInt8() & 0xff;
    value += (byte & 0x7f) * 2 ** (index * 7);
    if (byte < 0x80) return value;
  }
  throw new RangeError("a length is longer than 32 bits");
}

/** Some that came after kafkajs. */
const LATER: readonly (readonly [code: number, name: string])[] = [
  [89, "THROTTLING_QUOTA_EXCEEDED"],
  [90, "PRODUCER_FENCED"],
  [100, "UNKNOWN_TOPIC_ID"],
  [103, "INCONSISTENT_TOPIC_ID"],
];

const NAMES: ReadonlyMap<number, string> = new Map([
  ...internals.errorCodes.map(({ code, type }) => [code, type] as const),
  ...LATER,
]);

/**
 * The name of an error code; undefined for 0, `UNKNOWN_<code>` for one that nobody here knows (most from 89 up).
 *
 * The names are kafkajs', which are the protocol's but for these, where it keeps an older one: `UNKNOWN` (-1, now
 * UNKNOWN_SERVER_ERROR), `NOT_LEADER_FOR_PARTITION` (6, now NOT_LEADER_OR_FOLLOWER), `GROUP_LOAD_IN_PROGRESS` (14, now COORDINATOR_LOAD_IN_PROGRESS),
 * `GROUP_COORDINATOR_NOT_AVAILABLE` (15, now COORDINATOR_NOT_AVAILABLE) and `NOT_COORDINATOR_FOR_GROUP` (16, now
 * NOT_COORDINATOR).
 */
export function errorName(code: number): ErrorName {
  return code === 0 ? undefined : (NAMES.get(code) ?? `UNKNOWN_${code}`);
}

/**
 * A request of the protocol and how its answer is read. Each is spoken in one version, which every Kafka from 3.1 to 4.3
 * supports too, except those that say otherwise.
 */
export interface Exchange<Answer> {
  readonly name: string;
  readonly key: number;
  readonly version: number;
  /** Whether that version is a flexible one, whose headers have fields with tags too. Default false. */
  readonly flexible?: boolean;
  /** The same in a later version, for servers that speak it. */
  readonly later?: Exchange<Answer>;
  /**
   * For how many milliseconds the server may hold the answer back, as asked for in the request. Whatever stands behind it on
   * its socket waits as well. Default: it answers at once.
   */
  readonly waitMs?: number;
  /** For how many of the quickest it counts, which take some tenths of a millisecond. Default 1. */
  readonly load?: number;
  /** About how many bytes are written. Default 511. */
  readonly size?: number;
  /** Throws before anything is sent if a value cannot be written. */
  write(to: Encoder): void;
  read(from: AnswerReader): Answer;
}

/** Writes partitions by their topics, as most requests have them. Each may be there once, or answers could not be told apart. */
export function writeByTopic<Item extends TopicPartition>(
  to: Encoder,
  items: readonly Item[],
  write: (item: Item) => void,
): void {
  const byTopic = Map.groupBy(items, ({ topic }) => topic);
  to.writeInt32(byTopic.size);
  for (const [topic, partitions] of byTopic) {
    if (new Set(partitions.map(({ partition }) => partition)).size < partitions.length) {
      throw new RangeError(`a partition of ${topic} is asked for twice`);
    }
    to.writeString(topic).writeInt32(partitions.length);
    for (const item of partitions) {
      to.writeInt32(item.partition);
      write(item);
    }
  }
}

/** Reads what {@link writeByTopic} writes, and answers alike. They come in any order. */
export function readByTopic<Item>(
  from: AnswerReader,
  read: (topic: string, partition: number) => Item,
): readonly Item[] {
  return from
    .readArray(() => {
      const topic = readText(from);
      return from.readArray(() => read(topic, from.readInt32()));
    })
    .flat();
}

/**
 * The outcomes in the order of what was asked. Throws if one is missing, so that nobody takes a partition of which nothing
 * was said for one where all went well.
 */
export function inOrder<Outcome extends TopicPartition>(
  asked: readonly TopicPartition[],
  outcomes: readonly Outcome[],
): readonly Outcome[] {
  const byPlace = new Map(outcomes.map((outcome) => [`${outcome.topic}/${outcome.partition}`, outcome]));
  return asked.map(({ topic, partition }) => {
    const outcome = byPlace.get(`${topic}/${partition}`);
    if (outcome === undefined) throw new RangeError(`nothing is said of partition ${partition} of ${topic}`);
    return outcome;
  });
}

/** Writes an offset or a time. kafkajs would write 0 for what is no number. */
export function writeInteger(to: Encoder, value: number): void {
  if (!Number.isSafeInteger(value)) throw new RangeError(`${value} is no offset and no time`);
  to.writeInt64(value);
}

/** Reads an offset or a time. */
export function readInteger(from: AnswerReader): number {
  const value = Number(from.readInt64());
  if (!Number.isSafeInteger(value)) throw new RangeError(`${value} is beyond the integers that a number holds`);
  return value;
}

/**
 * Reads an offset that somebody committed: whoever may commit for a group may commit any. One that a number cannot hold is
 * far beyond the end of every log, and so is what it is read as.
 */
export function readCommitted(from: AnswerReader): number {
  const value = Number(from.readInt64());
  return Math.max(Math.min(value, Number.MAX_SAFE_INTEGER), Number.MIN_SAFE_INTEGER);
}

export function readText(from: AnswerReader): string {
  return from.readString() ?? "";
}

export function readBuffer(from: AnswerReader): Buffer {
  return from.readBytes() ?? Buffer.alloc(0);
}

/**
 * For how many milliseconds the server slows the client down, by a quota: it has answered at once, and reads nothing more of
 * the socket for so long.
 */
export function readThrottleTime(from: AnswerReader): number {
  from.throttledMs = Math.max(0, from.readInt32());
  return from.throttledMs;
}

/** For how many of the quickest questions one counts. What the node may hold back keeps all others off its socket. */
export function loadOf({ waitMs, load = 1 }: Pick<Exchange<unknown>, "waitMs" | "load">): number {
  return waitMs === undefined ? load : BUSY;
}

/** From so many requests under way on every socket on another one is opened, where some count for many. */
export const BUSY = 512;
