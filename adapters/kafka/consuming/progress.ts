import type { CommittedOffset } from "../port.ts";
import type { TopicIdentity } from "../topic-identity.ts";
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

/** A commit as it stands. */
export type Commit = Pick<CommittedOffset, "offset" | "metadata">;

/** What a commit says. */
export interface CommittedProgress {
  readonly progress: Progress;
  /** The topic that it is about; undefined where it does not say. */
  readonly of: TopicIdentity | undefined;
}

const MARK = "anybroker:2";
/** Place and id of the topic, offset, and relative to that the reach, the deaths, the bits, and what is kept. */
const FORMAT =
  /^anybroker:2:([A-Za-z0-9_-]{12}):([A-Za-z0-9_-]{22}):([0-9a-z]{1,11}):([0-9a-z]{1,11}):((?:[0-9a-z]{1,11}(?:,[0-9a-z]{1,11}){0,63})?):([A-Za-z0-9_-]{0,1667})(?::(-?[0-9a-z]{1,11}))?$/;

/** Nothing finished above the offset, and nothing in doubt. */
export function beginning(offset: number): Progress {
  return { offset, reach: offset, deaths: [], finished: new OffsetSet(offset, new Uint8Array(0)) };
}

/**
 * The metadata to commit beside the offset. At most 2,600 characters, whatever the progress: Kafka takes 4,096 bytes.
 * Offsets finished too far above the first unfinished one are left out; see {@link MOST_AHEAD}. It says for which offset
 * of which topic it counts: others (mirrors between clusters, tools) may put it beside another offset, or in another topic.
 */
export function encodeProgress(
  { offset, reach, deaths, finished, kept }: Progress,
  { place, id }: TopicIdentity,
): string {
  const above = (bound: number): string => (bound - offset).toString(36);
  const bounds = deaths.slice(-MOST_DEATHS).map(above).join(",");
  const { buffer, byteOffset, length } = finished.bits.subarray(0, MOST_AHEAD / 8);
  const bits = Buffer.from(buffer, byteOffset, length).toString("base64url");
  const ending = kept === undefined ? [] : [above(kept)];
  return [MARK, place, id, offset.toString(36), above(reach), bounds, bits, ...ending].join(":");
}

/**
 * Reads a committed offset with its metadata. Metadata that is not ours, cannot be read, or was written for another offset,
 * says nothing: then everything from the offset on is to be done, and nothing is in doubt. Never throws.
 */
export function decodeProgress({ offset, metadata }: Commit): CommittedProgress {
  const nothing: CommittedProgress = { progress: beginning(offset), of: undefined };
  const found = FORMAT.exec(metadata);
  if (found === null) return nothing;
  const [, place, id, at, reach, deaths, bits, kept] = found as unknown as readonly string[] as Fields;
  if (Number.parseInt(at, 36) !== offset) return nothing;
  const bound = (text: string): number => offset + Number.parseInt(text, 36);
  const bounds = deaths === "" ? [] : deaths.split(",").map(bound);
  if (![bound(reach), ...bounds].every(Number.isSafeInteger)) return nothing;
  const progress: Progress = {
    offset,
    reach: bound(reach),
    deaths: bounds.sort((one, other) => one - other),
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
  reach: string,
  deaths: string,
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

/** Counts one death more, which reached up to `reach`. */
export function withDeath(deaths: readonly number[], reach: number): readonly number[] {
  return [...deaths, reach].sort((one, other) => one - other).slice(-MOST_DEATHS);
}
