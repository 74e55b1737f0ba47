import type Encoder from "kafkajs/src/protocol/encoder.js";
import type { TopicId } from "../port.ts";
import type { AnswerReader } from "./answer-reader.ts";

/*
 * What the flexible versions of requests are written in: lengths as varints of one more than they are (0 stands for
 * nothing), and fields with tags behind everything, of which none is written here and all are passed over. kafkajs' own
 * readers of it read a byte too many, and believe any length.
 */

const UUID_BYTES = 16;
const MOST_VARINT_BYTES = 5;
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
  for (let index = 0; index < MOST_VARINT_BYTES; index++) {
    const byte = from.readInt8() & 0xff;
    value += (byte & 0x7f) * 2 ** (index * 7);
    if (byte < 0x80) return value;
  }
  throw new RangeError("a length is longer than 32 bits");
}
