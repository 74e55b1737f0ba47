import type { CommittedOffset } from "../port.ts";
import type { TopicIdentity } from "../topic-identity.ts";

/** Some of the offsets from a first one on, a bit each. */
export class OffsetSet {
  readonly #first: number;
  readonly #bits: Uint8Array;

  /** The lowest bit of the first byte stands for `first`. */
  constructor(first: number, bits: Uint8Array) {
    this.#first = first;
    this.#bits = bits;
  }

  static of(first: number, offsets: Iterable<number>): OffsetSet {
    const wanted = [...offsets].filter((offset) => offset >= first);
    const bits = new Uint8Array(Math.ceil((Math.max(first - 1, ...wanted) - first + 1) / 8));
    for (const offset of wanted) add(bits, offset - first);
    return new OffsetSet(first, bits);
  }

  /** No offset at or above it is in the set. */
  get end(): number {
    return this.#first + this.#bits.length * 8;
  }

  has(offset: number): boolean {
    const index = offset - this.#first;
    return index >= 0 && ((this.#bits[Math.floor(index / 8)] ?? 0) & (1 << (index % 8))) !== 0;
  }

  /** The bits, without bytes that are zero at the end. */
  get bits(): Uint8Array {
    let length = this.#bits.length;
    while (length > 0 && this.#bits[length - 1] === 0) length--;
    return this.#bits.subarray(0, length);
  }

  *[Symbol.iterator](): Iterator<number> {
    for (let offset = this.#first; offset < this.end; offset++) if (this.has(offset)) yield offset;
  }
}

/** Sets the bit of an index. */
export function add(bits: Uint8Array, index: number): void {
  const byte = Math.floor(index / 8);
  bits[byte] = (bits[byte] ?? 0) | (1 << (index % 8));
}

/** Clears the bit of an index. */
export function remove(bits: Uint8Array, index: number): void {
  const byte = Math.floor(index / 8);
  bits[byte] = (bits[byte] ?? 0) & ~(1 << (index % 8));
}

/**
 * From where on the records of a partition have to stay, finished or not, because dead letters refer to them. A reference
 * counts from before it is written. Whether it still stands is only known from the dead letters themselves, which are read
 * through now and then: a review.
 */
export class KeptOffsets {
  #lowest: number | undefined;
  /** References that are being written. */
  readonly #underWay = new Map<number, number>();
  /** References that a review which is under way may not see. */
  #unseen: Set<number> | undefined;

  /** With what was committed. */
  constructor(lowest: number | undefined) {
    this.#lowest = lowest;
  }

  /** Undefined where nothing has to stay. */
  get lowest(): number | undefined {
    return this.#lowest;
  }

  /** A reference to an offset is about to be written; the result is to be called when that ended, in whatever way. */
  keep(offset: number): () => void {
    this.#lowest = Math.min(this.#lowest ?? offset, offset);
    this.#unseen?.add(offset);
    this.#underWay.set(offset, (this.#underWay.get(offset) ?? 0) + 1);
    let isOver = false;
    return () => {
      if (isOver) return;
      isOver = true;
      const left = (this.#underWay.get(offset) ?? 1) - 1;
      if (left > 0) this.#underWay.set(offset, left);
      else this.#underWay.delete(offset);
    };
  }

  /** The dead letters are about to be read through. */
  beginReview(): void {
    this.#unseen = new Set(this.#underWay.keys());
  }

  /** They were read through; `found` is the lowest offset that any refers to. Returns whether the lowest has changed. */
  endReview(found: number | undefined): boolean {
    if (this.#unseen === undefined) return false;
    const all = [...(found === undefined ? [] : [found]), ...this.#unseen];
    this.#unseen = undefined;
    const before = this.#lowest;
    this.#lowest = all.length === 0 ? undefined : Math.min(...all);
    return this.#lowest !== before;
  }

  /** They could not be read through. */
  failReview(): void {
    this.#unseen = undefined;
  }
}

/** How far a group is in a partition. */
export interface Progress {
  /** Every record before it is finished. */
  readonly offset: number;
  /** Nothing at or above it is in anybody's hands. Equal to `offset` where nothing at all is. */
  readonly watermark: number;
  /**
   * How far the hands reached of each consumer that died, ascending. What is not finished now was not finished then, and
   * lies behind where each of them began: so a record has as many crashes as there are numbers here above its offset.
   */
  readonly crashes: readonly number[];
  /** What is finished from `offset` on. */
  readonly finished: OffsetSet;
  /** Dead letters refer to records from here on, which are finished and must stay; undefined where none do. */
  readonly kept?: number | undefined;
}

/**
 * How far above the first unfinished record of a partition others are handed out. So what is finished out of order always
 * fits beside the committed offset: 1,250 bytes of bits, in base64 1,667 characters.
 */
export const MAX_AHEAD = 10_000;

/** More crashes than anything outlives; the earliest are forgotten first. */
export const MAX_CRASHES = 64;

/** A commit as it stands. */
export type Commit = Pick<CommittedOffset, "offset" | "metadata">;

/** What a commit says. */
export interface CommittedProgress {
  readonly progress: Progress;
  /** The topic that it is about; undefined where it does not say. */
  readonly of: TopicIdentity | undefined;
}

export const MARK = "anybroker:2";

/** Place and id of the topic, offset, and relative to that the watermark, the crashes, the bits, and what is kept. */
export const FORMAT =
  /^anybroker:2:([A-Za-z0-9_-]{12}):([A-Za-z0-9_-]{22}):([0-9a-z]{1,11}):([0-9a-z]{1,11}):((?:[0-9a-z]{1,11}(?:,[0-9a-z]{1,11}){0,63})?):([A-Za-z0-9_-]{0,1667})(?::(-?[0-9a-z]{1,11}))?$/;

/** Nothing finished above the offset, and nothing in doubt. */
export function beginning(offset: number): Progress {
  return { offset, watermark: offset, crashes: [], finished: new OffsetSet(offset, new Uint8Array(0)) };
}

/**
 * The metadata to commit beside the offset. At most 2,600 characters, whatever the progress: Kafka takes 4,096 bytes.
 * Offsets finished too far above the first unfinished one are left out; see {@link MAX_AHEAD}. It says for which offset
 * of which topic it counts: others (mirrors between clusters, tools) may put it beside another offset, or in another topic.
 */
export function encodeProgress(
  { offset, watermark, crashes, finished, kept }: Progress,
  { place, id }: TopicIdentity,
): string {
  const above = (bound: number): string => (bound - offset).toString(36);
  const bounds = crashes.slice(-MAX_CRASHES).map(above).join(",");
  const { buffer, byteOffset, length } = finished.bits.subarray(0, MAX_AHEAD / 8);
  const bits = Buffer.from(buffer, byteOffset, length).toString("base64url");
  const ending = kept === undefined ? [] : [above(kept)];
  return [MARK, place, id, offset.toString(36), above(watermark), bounds, bits, ...ending].join(":");
}

/**
 * Reads a committed offset with its metadata. Metadata that is not ours, cannot be read, or was written for another offset,
 * says nothing: then everything from the offset on is to be done, and nothing is in doubt. Never throws.
 */
export function decodeProgress({ offset, metadata }: Commit): CommittedProgress {
  const nothing: CommittedProgress = { progress: beginning(offset), of: undefined };
  const found = FORMAT.exec(metadata);
  if (found === null) return nothing;
  const [, place, id, at, watermark, crashes, bits, kept] = found as unknown as readonly string[] as Fields;
  if (Number.parseInt(at, 36) !== offset) return nothing;
  const bound = (text: string): number => offset + Number.parseInt(text, 36);
  const bounds = crashes === "" ? [] : crashes.split(",").map(bound);
  if (![bound(watermark), ...bounds].every(Number.isSafeInteger)) return nothing;
  const progress: Progress = {
    offset,
    watermark: bound(watermark),
    crashes: bounds.sort((one, other) => one - other),
    finished: new OffsetSet(offset, Buffer.from(bits, "base64url")),
    ...(kept === undefined ? {} : { kept: Math.max(bound(kept), 0) }),
  };
  return { progress, of: { place, id } };
}

export type Fields = readonly [
  whole: string,
  place: string,
  id: string,
  at: string,
  watermark: string,
  crashes: string,
  bits: string,
  kept: string | undefined,
];

/**
 * What a commit says about the topic that has the name now. Undefined if it says nothing of it: there is none, or it was made
 * for a topic that was there before. Of one that was made in another place (another cluster, another name) and brought here
 * the offset counts alone: who brought it has translated that.
 */
export function progressIn(topic: TopicIdentity, commit: Commit): Progress | undefined {
  if (commit.offset < 0) return undefined;
  const { progress, of } = decodeProgress(commit);
  if (of === undefined || of.id === topic.id) return progress;
  return of.place === topic.place ? undefined : beginning(commit.offset);
}

/** Everything before it may be deleted, as far as a group is concerned that committed this. */
export function trimmableTo({ offset, kept = offset }: Progress): number {
  return Math.min(offset, kept);
}

/** Whether metadata is in our own form, so that it ought to be readable. */
export function isOurs(metadata: string): boolean {
  return metadata.startsWith("anybroker:");
}

/** Whether {@link decodeProgress} can read it. */
export function isReadable(metadata: string): boolean {
  return FORMAT.test(metadata);
}

/** Counts one crash more, which reached up to `watermark`. */
export function withCrash(crashes: readonly number[], watermark: number): readonly number[] {
  return [...crashes, watermark].sort((one, other) => one - other).slice(-MAX_CRASHES);
}
