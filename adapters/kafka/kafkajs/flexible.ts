import type Decoder from "kafkajs/src/protocol/decoder.js";
import type Encoder from "kafkajs/src/protocol/encoder.js";
import type { TopicId } from "../port.ts";

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
export function skipTags(from: Decoder): void {
  for (let left = readVarint(from); left > 0; left--) {
    readVarint(from);
    take(from, readVarint(from));
  }
}

export function readCompactText(from: Decoder): string {
  return readCompactBytes(from).toString("utf8");
}

/** Nothing where it is null. Shares the memory of the answer. */
export function readCompactBytes(from: Decoder): Buffer {
  return take(from, Math.max(readVarint(from) - 1, 0));
}

/** Nothing where it is null. */
export function readCompactArray<Item>(from: Decoder, read: () => Item): Item[] {
  const length = Math.max(readVarint(from) - 1, 0);
  // No item is shorter than a byte, so that a wrong length costs no memory.
  if (length > from.buffer.length - from.offset) throw new RangeError("an array is longer than its message");
  return Array.from({ length }, read);
}

export function readTopicId(from: Decoder): TopicId {
  const id = take(from, UUID_BYTES).toString("base64url");
  return id === ZERO_ID ? "" : id;
}

function readVarint(from: Decoder): number {
  let value = 0;
  for (let index = 0; index < MOST_VARINT_BYTES; index++) {
    const byte = from.readInt8() & 0xff;
    value += (byte & 0x7f) * 2 ** (index * 7);
    if (byte < 0x80) return value;
  }
  throw new RangeError("a length is longer than 32 bits");
}

function take(from: Decoder, length: number): Buffer {
  const end = from.offset + length;
  if (end > from.buffer.length) throw new RangeError("a length is beyond the end of its message");
  const taken = from.buffer.subarray(from.offset, end);
  from.offset = end;
  return taken;
}
