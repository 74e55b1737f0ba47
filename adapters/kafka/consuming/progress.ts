import type { TopicIdentity } from "../names.ts";
import type { CommittedOffset } from "../port.ts";

/** A set of offsets from a first one on, one bit each. */
export class OffsetSet {
  readonly #first: number;
  readonly #bits: Uint8Array;

  /** The lowest bit of the first byte is `first`. */
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

  /** The bits, without zero bytes at the end. */
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
 * The lowest offset that must stay in the log because dead letters refer to it. A reference counts before it is
 * written. Only a review, which reads all dead letters, finds out that one is gone.
 */
export class KeptOffsets {
  #lowest: number | undefined;
  /** References that are being written. */
  readonly #underWay = new Map<number, number>();
  /** References that the current review may miss. */
  #unseen: Set<number> | undefined;

  /** Starts with the committed value. */
  constructor(lowest: number | undefined) {
    this.#lowest = lowest;
  }

  /** Undefined if nothing must stay. */
  get lowest(): number | undefined {
    return this.#lowest;
  }

  /** A reference to an offset is about to be written. Call the result when that ended, with or without success. */
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

  /** A review starts. */
  beginReview(): void {
    this.#unseen = new Set(this.#underWay.keys());
  }

  /** A review found the lowest referenced offset. Returns whether the lowest has changed. */
  endReview(found: number | undefined): boolean {
    if (this.#unseen === undefined) return false;
    const all = [...(found === undefined ? [] : [found]), ...this.#unseen];
    this.#unseen = undefined;
    const before = this.#lowest;
    this.#lowest = all.length === 0 ? undefined : Math.min(...all);
    return this.#lowest !== before;
  }

  /** A review failed. */
  failReview(): void {
    this.#unseen = undefined;
  }
}

/** The progress of a group in a partition. */
export interface Progress {
  /** Every record before it is finished. */
  readonly offset: number;
  /** No record at or above it is in flight. Equal to `offset` if none is. */
  readonly watermark: number;
  /**
   * For each crash, how far its deliveries reached, ascending. A record has as many crashes as there are numbers above
   * its offset: unfinished records were unfinished then, too.
   */
  readonly crashes: readonly number[];
  /** Finished offsets from `offset` on. */
  readonly finished: OffsetSet;
  /** Dead letters refer to finished records from this offset on, which must stay; undefined for none. */
  readonly kept?: number | undefined;
}

/**
 * How far above the first unfinished record others are delivered. The finished ones then fit into a commit: 1,250 bytes
 * of bits, 1,667 characters in base64.
 */
export const MAX_AHEAD = 10_000;

/** The most crashes that are counted; the earliest are dropped first. */
const MAX_CRASHES = 64;

/** A committed offset with its metadata. */
export type Commit = Pick<CommittedOffset, "offset" | "metadata">;

/** The content of a commit. */
interface CommittedProgress {
  readonly progress: Progress;
  /** The topic of the commit; undefined if unknown. */
  readonly of: TopicIdentity | undefined;
}

const MARK = "anybroker:2";

/**
 * Place and id of the topic, offset; relative to it the watermark, the crashes, the bits, and the lowest kept offset.
 */
const FORMAT =
  /^anybroker:2:([A-Za-z0-9_-]{12}):([A-Za-z0-9_-]{22}):([0-9a-z]{1,11}):([0-9a-z]{1,11}):((?:[0-9a-z]{1,11}(?:,[0-9a-z]{1,11}){0,63})?):([A-Za-z0-9_-]{0,1667})(?::(-?[0-9a-z]{1,11}))?$/;

/** Nothing is finished above the offset, and nothing is in doubt. */
export function beginning(offset: number): Progress {
  return { offset, watermark: offset, crashes: [], finished: new OffsetSet(offset, new Uint8Array(0)) };
}

/**
 * Encodes the metadata of a commit, in at most 2,600 characters (Kafka takes 4,096 bytes). Finished offsets too far
 * above the first unfinished one are left out; see {@link MAX_AHEAD}. It names its topic and offset, because mirrors
 * and tools may copy it to another.
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
 * Decodes a commit. Foreign, unreadable or copied metadata counts as none: everything from the offset on is unfinished,
 * and nothing is in doubt. Never throws.
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

type Fields = readonly [
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
 * Reads the progress of a commit in the current topic of its name. Undefined if there is no commit, or if it belongs to
 * an earlier topic. A commit that was mirrored from elsewhere counts with its offset only.
 */
export function progressIn(topic: TopicIdentity, commit: Commit): Progress | undefined {
  if (commit.offset < 0) return undefined;
  const { progress, of } = decodeProgress(commit);
  if (of === undefined || of.id === topic.id) return progress;
  return of.place === topic.place ? undefined : beginning(commit.offset);
}

/** The offset below which the group needs no record. */
export function trimmableTo({ offset, kept = offset }: Progress): number {
  return Math.min(offset, kept);
}

/** Whether metadata has our format, and so should be readable. */
export function isOurs(metadata: string): boolean {
  return metadata.startsWith("anybroker:");
}

/** Whether {@link decodeProgress} can read it. */
export function isReadable(metadata: string): boolean {
  return FORMAT.test(metadata);
}

/** Counts one more crash, whose deliveries reached up to `watermark`. */
export function withCrash(crashes: readonly number[], watermark: number): readonly number[] {
  return [...crashes, watermark].sort((one, other) => one - other).slice(-MAX_CRASHES);
}
