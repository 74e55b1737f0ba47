import { oneLine } from "../../../core/foreign.ts";
import { partitionKey } from "../names.ts";
import type { TopicPartition } from "../port.ts";

/** Writes the primitives of Kafka's embedded protocols. */
export class Writer {
  readonly #parts: Buffer[] = [];

  int16(value: number): this {
    const bytes = Buffer.alloc(2);
    bytes.writeInt16BE(value);
    this.#parts.push(bytes);
    return this;
  }

  int32(value: number): this {
    const bytes = Buffer.alloc(4);
    bytes.writeInt32BE(value);
    this.#parts.push(bytes);
    return this;
  }

  string(value: string): this {
    const bytes = Buffer.from(value);
    this.int16(bytes.length).#parts.push(bytes);
    return this;
  }

  bytes(value: Buffer): this {
    this.int32(value.length).#parts.push(value);
    return this;
  }

  array<Item>(items: readonly Item[], write: (item: Item) => void): this {
    this.int32(items.length);
    for (const item of items) write(item);
    return this;
  }

  /** Partitions grouped by topic. */
  partitions(partitions: readonly TopicPartition[]): this {
    const topics = Map.groupBy(partitions, ({ topic }) => topic);
    return this.array([...topics], ([topic, those]) => {
      this.string(topic).array(those, ({ partition }) => this.int32(partition));
    });
  }

  end(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

/** Reads the same. Throws a `RangeError` for truncated data and wrong lengths. */
class Reader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  int16(): number {
    this.#at += 2;
    return this.#bytes.readInt16BE(this.#at - 2);
  }

  int32(): number {
    this.#at += 4;
    return this.#bytes.readInt32BE(this.#at - 4);
  }

  string(): string {
    return this.#take(this.int16()).toString();
  }

  /** Empty for null. */
  bytes(): Buffer {
    return this.#take(Math.max(this.int32(), 0));
  }

  array<Item>(read: () => Item): Item[] {
    const length = this.int32();
    // Each item takes at least two bytes, so a wrong length costs no memory.
    if (length * 2 > this.#bytes.length - this.#at) throw new RangeError("an array is longer than its message");
    return Array.from({ length: Math.max(length, 0) }, read);
  }

  partitions(): TopicPartition[] {
    return this.array(() => {
      const topic = this.string();
      return this.array(() => ({ topic, partition: this.int32() }));
    }).flat();
  }

  #take(length: number): Buffer {
    const end = this.#at + length;
    if (length < 0 || end > this.#bytes.length) throw new RangeError("a text is longer than its message");
    const taken = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    return taken;
  }
}

/** The protocol name. Groups with members of another protocol are not joined. */
export const PROTOCOL = "anybroker-cooperative";

/** The version of Kafka's envelope, which its tools read. */
const ENVELOPE = 0;
/** The version of our part. Later versions may only append. */
const CONTENT = 1;

/** What a member sends when it joins. */
export interface Subscription {
  readonly topics: readonly string[];
  /** Increased to force a new generation: equal metadata may be answered with the old one. */
  readonly rejoins: number;
  /** The last generation whose assignment the member had. Of two claims to a partition, the later one is valid. */
  readonly generation: number;
  /** The partitions it keeps unless the assignment says otherwise. */
  readonly held: readonly TopicPartition[];
  /** The partitions it gives up and still owns. */
  readonly leaving: readonly TopicPartition[];
}

/** A topic as the leader knows it. */
export interface TopicView {
  readonly topic: string;
  /** 0 with a problem. */
  readonly partitions: number;
  /** The name of the error; empty for none. */
  readonly problem: string;
}

/** What the leader assigns to a member. */
export interface Assignment {
  readonly assigned: readonly TopicPartition[];
  /** Invalid claims: another member has the partition, or it is gone. */
  readonly taken: readonly TopicPartition[];
  /** How many partitions it gets once others have given them up. */
  readonly awaited: number;
  readonly topics: readonly TopicView[];
}

export function encodeSubscription({ topics, rejoins, generation, held, leaving }: Subscription): Buffer {
  const content = new Writer()
    .int16(CONTENT)
    .int32(rejoins)
    .int32(generation)
    .partitions(held)
    .partitions(leaving)
    .end();
  const writer = new Writer().int16(ENVELOPE);
  return writer
    .array(topics, (topic) => writer.string(topic))
    .bytes(content)
    .end();
}

/** A member with unreadable metadata gets no partitions. */
export function decodeSubscription(metadata: Buffer): Subscription {
  try {
    const reader = new Reader(metadata);
    reader.int16();
    const topics = reader.array(() => reader.string());
    const content = new Reader(reader.bytes());
    content.int16();
    const [rejoins, generation] = [content.int32(), content.int32()];
    return { topics, rejoins, generation, held: content.partitions(), leaving: content.partitions() };
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return { topics: [], rejoins: 0, generation: -1, held: [], leaving: [] };
  }
}

export function encodeAssignment({ assigned, taken, awaited, topics }: Assignment): Buffer {
  const content = new Writer().int16(CONTENT).partitions(taken).int32(awaited);
  content.array(topics, ({ topic, partitions, problem }) => content.string(topic).int32(partitions).string(problem));
  return new Writer().int16(ENVELOPE).partitions(assigned).bytes(content.end()).end();
}

/**
 * Decodes a member's assignment; empty if the leader left it out. Throws a `RangeError` for another protocol, and for
 * partitions of other topics, negative ones and duplicates.
 */
export function decodeAssignment(assignment: Buffer, readTopics: readonly string[]): Assignment {
  if (assignment.length === 0) return { assigned: [], taken: [], awaited: 0, topics: [] };
  const reader = new Reader(assignment);
  reader.int16();
  const assigned = reader.partitions();
  checkAssigned(assigned, new Set(readTopics));
  const content = new Reader(reader.bytes());
  content.int16();
  const taken = content.partitions();
  const awaited = content.int32();
  const topics = content.array(() => ({
    topic: content.string(),
    partitions: content.int32(),
    problem: content.string(),
  }));
  return { assigned, taken, awaited, topics };
}

/** What a foreign leader assigns may be called anything. */
const MAX_TOPIC = 255;

function checkAssigned(assigned: readonly TopicPartition[], topics: ReadonlySet<string>): void {
  const keys = new Set(assigned.map(partitionKey));
  if (keys.size < assigned.length) throw new RangeError("a partition is assigned twice");
  const odd = assigned.find(({ topic, partition }) => partition < 0 || !topics.has(topic));
  if (odd !== undefined)
    throw new RangeError(`partition ${odd.partition} of "${oneLine(odd.topic, MAX_TOPIC)}" is none that is read`);
}
