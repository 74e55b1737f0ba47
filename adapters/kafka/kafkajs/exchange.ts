import type Encoder from "kafkajs/src/protocol/encoder.js";
import type { TopicPartition } from "../port.ts";
import type { AnswerReader } from "./answer-reader.ts";

/**
 * A request of the protocol and how its answer is read. Each is spoken in one version, which every Kafka from 3.1 to 4.3
 * speaks too, but for those that say otherwise.
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
