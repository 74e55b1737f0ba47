import type { TopicPartition } from "../port.ts";

/** Writes what Kafka's embedded protocols are made of. */
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

  /** Kafka's usual form: numbers by topic. */
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

/** Reads the same. Throws a `RangeError` where it ends too early or a length is wrong. */
export class Reader {
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

  /** Nothing where it is null. */
  bytes(): Buffer {
    return this.#take(Math.max(this.int32(), 0));
  }

  array<Item>(read: () => Item): Item[] {
    const length = this.int32();
    // No item is shorter than two bytes, so that a wrong length costs no memory.
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
