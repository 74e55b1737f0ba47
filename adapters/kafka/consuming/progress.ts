import { OffsetSet } from "./offset-set.ts";

/** How far a group is in a partition. */
export interface Progress {
  /** Every record before it is finished. */
  readonly offset: number;
  /** Nothing at or above it is in anybody's hands. Equal to `offset` where nothing at all is. */
  readonly reach: number;
  /**
   * How far the hands reached of each consumer that died, ascending. What is not finished now was not finished then, and
   * lies behind where each of them began: so a record has as many deaths as there are numbers here above its offset.
   */
  readonly deaths: readonly number[];
  /** What is finished from `offset` on. */
  readonly finished: OffsetSet;
  /** Dead letters refer to records from here on, which are finished and must stay; undefined where none do. */
  readonly kept?: number | undefined;
}

/**
 * How far above the first unfinished record of a partition others are handed out. So what is finished out of order always
 * fits beside the committed offset: 1,250 bytes of bits, in base64 1,667 characters.
 */
export const MOST_AHEAD = 10_000;
/** More deaths than anything outlives; the earliest are forgotten first. */
const MOST_DEATHS = 64;

const MARK = "anybroker:1:";
const FORMAT =
  /^anybroker:1:([0-9a-z]{1,11}):((?:[0-9a-z]{1,11}(?:,[0-9a-z]{1,11}){0,63})?):([A-Za-z0-9_-]{0,1667})(?::(-?[0-9a-z]{1,11}))?$/;

/** Nothing finished above the offset, and nothing in doubt. */
export function beginning(offset: number): Progress {
  return { offset, reach: offset, deaths: [], finished: new OffsetSet(offset, new Uint8Array(0)) };
}

/**
 * The metadata to commit beside the offset. At most 2,500 characters, whatever the progress: Kafka takes 4,096 bytes.
 * Offsets finished too far above the first unfinished one are left out; see {@link MOST_AHEAD}.
 */
export function encodeProgress({ offset, reach, deaths, finished, kept }: Progress): string {
  const above = (bound: number): string => (bound - offset).toString(36);
  const bounds = deaths.slice(-MOST_DEATHS).map(above);
  const bits = finished.bits.subarray(0, MOST_AHEAD / 8);
  const { buffer, byteOffset, length } = bits;
  const ending = kept === undefined ? "" : `:${above(kept)}`;
  return `${MARK}${above(reach)}:${bounds}:${Buffer.from(buffer, byteOffset, length).toString("base64url")}${ending}`;
}

/**
 * Reads a committed offset with its metadata. Metadata that is not ours, or cannot be read, says nothing: then everything
 * from the offset on is to be done, and nothing is in doubt. Never throws.
 */
export function decodeProgress(offset: number, metadata: string): Progress {
  const [, reach, deaths, bits, kept] = FORMAT.exec(metadata) ?? [];
  if (reach === undefined || deaths === undefined || bits === undefined) return beginning(offset);
  const bound = (text: string): number => offset + Number.parseInt(text, 36);
  const bounds = deaths === "" ? [] : deaths.split(",").map(bound);
  if (![bound(reach), ...bounds].every(Number.isSafeInteger)) return beginning(offset);
  return {
    offset,
    reach: bound(reach),
    deaths: bounds.sort((one, other) => one - other),
    finished: new OffsetSet(offset, Buffer.from(bits, "base64url")),
    ...(kept === undefined ? {} : { kept: Math.max(bound(kept), 0) }),
  };
}

/** Everything before it may be deleted, as far as a group is concerned that committed this. */
export function trimmableTo(offset: number, metadata: string): number {
  return Math.min(offset, decodeProgress(offset, metadata).kept ?? offset);
}

/** Whether metadata is in our own form, so that it ought to be readable. */
export function isOurs(metadata: string): boolean {
  return metadata.startsWith("anybroker:");
}

/** Whether {@link decodeProgress} can read it. */
export function isReadable(metadata: string): boolean {
  return FORMAT.test(metadata);
}

/** Counts one death more, which reached up to `reach`. */
export function withDeath(deaths: readonly number[], reach: number): readonly number[] {
  return [...deaths, reach].sort((one, other) => one - other).slice(-MOST_DEATHS);
}
