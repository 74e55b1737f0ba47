import type Encoder from "kafkajs/src/protocol/encoder.js";
import type { ErrorName, TopicId, TopicPartition } from "../port.ts";
import { internals } from "./internals.ts";

/** Far more than any answer has: each may become an object. */
const MAX_ITEMS = 4_000_000;

/**
 * Reads an answer. Throws a `RangeError` for any invalid length, while kafkajs' reader trusts every length. Shares the
 * memory of the answer.
 */
export class AnswerReader {
  readonly buffer: Buffer;
  /** For how many milliseconds the server ignores this socket. */
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

  /** Empty for null. */
  readArray<Item>(read: (from: this) => Item): Item[] {
    const length = this.readInt32();
    return length === -1 ? [] : this.readItems(length, read);
  }

  /** Reads items of at least one byte each. */
  readItems<Item>(length: number, read: (from: this) => Item): Item[] {
    this.#items += length;
    // A wrong length costs no memory.
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

  /** Advances by so many bytes, which must exist. Returns where they begin. */
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
 * The primitives of flexible request versions: lengths are varints plus one (0 means null), and tagged fields follow
 * each structure. We write none and skip all. kafkajs' readers for them read a byte too many and trust every length.
 */

const UUID_BYTES = 16;
const MAX_VARINT_BYTES = 5;
const ZERO_ID = Buffer.alloc(UUID_BYTES).toString("base64url");

/** Writes an empty list of tagged fields. */
export function writeTags(to: Encoder): void {
  to.writeUVarInt(0);
}

export function writeCompactArray<Item>(to: Encoder, items: readonly Item[], write: (item: Item) => void): void {
  to.writeUVarInt(items.length + 1);
  for (const item of items) write(item);
}

/** Writes a topic id. Throws for an invalid one. */
export function writeTopicId(to: Encoder, id: TopicId): void {
  const bytes = Buffer.from(id, "base64url");
  if (bytes.length !== UUID_BYTES) throw new RangeError(`"${id}" is no id of a topic`);
  to.writeBuffer(bytes);
}

/** Writes partitions grouped by topic. Throws for duplicates, since their answers could not be distinguished. */
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

/** Skips tagged fields. */
export function skipTags(from: AnswerReader): void {
  for (let left = readVarint(from); left > 0; left--) {
    readVarint(from);
    from.take(readVarint(from));
  }
}

export function readCompactText(from: AnswerReader): string {
  return readCompactBytes(from).toString("utf8");
}

/** Empty for null. Shares the memory of the answer. */
export function readCompactBytes(from: AnswerReader): Buffer {
  return from.take(Math.max(readVarint(from) - 1, 0));
}

/** Empty for null. */
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

/** Error codes newer than kafkajs. */
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
 * The name of an error code; undefined for 0, and `UNKNOWN_<code>` for unknown ones (most from 89 up).
 *
 * The names are kafkajs', which keeps some older ones: `UNKNOWN` (-1, now UNKNOWN_SERVER_ERROR),
 * `NOT_LEADER_FOR_PARTITION` (6, now NOT_LEADER_OR_FOLLOWER), `GROUP_LOAD_IN_PROGRESS` (14, now
 * COORDINATOR_LOAD_IN_PROGRESS), `GROUP_COORDINATOR_NOT_AVAILABLE` (15, now COORDINATOR_NOT_AVAILABLE) and
 * `NOT_COORDINATOR_FOR_GROUP` (16, now NOT_COORDINATOR).
 */
export function errorName(code: number): ErrorName {
  return code === 0 ? undefined : (NAMES.get(code) ?? `UNKNOWN_${code}`);
}

/**
 * A protocol request and how to read its answer. Each uses one version, which every Kafka from 3.1 to 4.3 supports,
 * unless noted.
 */
export interface Exchange<Answer> {
  readonly name: string;
  readonly key: number;
  readonly version: number;
  /** Whether the version is flexible: its header has tagged fields too. Default false. */
  readonly flexible?: boolean;
  /** The request in a later version, for servers that support it. */
  readonly later?: Exchange<Answer>;
  /**
   * For how many milliseconds the server may hold back the answer; later requests on the socket wait too. Default: it
   * answers at once.
   */
  readonly waitMs?: number;
  /** Its weight, compared to a quick request of some tenths of a millisecond. Default 1. */
  readonly load?: number;
  /** About how many bytes it takes. Default 511. */
  readonly size?: number;
  /** Throws if a value cannot be written; then nothing is sent. */
  write(to: Encoder): void;
  read(from: AnswerReader): Answer;
}

/**
 * Writes partitions grouped by topic, for most requests. Throws for duplicates, whose answers could not be distinguished.
 */
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

/** Reads partitions as {@link writeByTopic} writes them, in any order. */
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

/** Sorts outcomes into the order of the request. Throws if one is missing, so that it cannot count as a success. */
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

/** Writes an offset or a time. kafkajs would write 0 for other values. */
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
 * Reads a committed offset, which may have any value. Values beyond a safe integer are capped: they are beyond every
 * log anyway.
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

/** A longer throttle is repeated by the server; a single wrong answer must not stop everything. */
const MAX_THROTTLE_MS = 60_000;

/** Reads for how many milliseconds the server throttles this client and ignores the socket; at most 60 s. */
export function readThrottleTime(from: AnswerReader): number {
  from.throttledMs = Math.min(Math.max(0, from.readInt32()), MAX_THROTTLE_MS);
  return from.throttledMs;
}

/** The weight of a request. A request that the node holds back keeps others off its socket. */
export function loadOf({ waitMs, load = 1 }: Pick<Exchange<unknown>, "waitMs" | "load">): number {
  return waitMs === undefined ? load : BUSY;
}

/** With so much load on every socket another one is opened, if its role allows several. */
export const BUSY = 512;
