import { isMessagingError, MessagingError } from "../../../core/errors.ts";
import { oneLine } from "../../../core/foreign.ts";
import type { Cluster } from "../cluster.ts";
import { decodeProgress, trimmableTo } from "../consuming/progress.ts";
import type { CommittedOffset, PartitionOffset, TopicId, TopicPartition } from "../port.ts";
import { type GroupPositions, LONGEST_GROUP } from "./positions.ts";

/** A partition from which handled records are to be deleted. */
export interface TrimPlace extends TopicPartition {
  /** The topic that is meant, and no other of its name. */
  readonly topicId: TopicId;
  /** Whose work the topic holds. */
  readonly group: string;
}

/**
 * One reason to keep records: by place, in order, the offset from which on they are kept; undefined where it keeps none.
 * Rejects where it cannot tell: then nothing is deleted.
 */
export type TrimBound = (places: readonly TrimPlace[]) => Promise<readonly (number | undefined)[]>;

/** The slowest position of each place, by all reasons to keep records. Trimming never passes it. Rejects if one cannot tell. */
export async function slowestPositions(
  places: readonly TrimPlace[],
  bounds: readonly TrimBound[],
): Promise<readonly number[]> {
  const slowest = places.map(() => Number.POSITIVE_INFINITY);
  for (const bound of bounds) {
    const kept = await bound(places);
    for (const [index, offset = Number.POSITIVE_INFINITY] of kept.entries()) {
      slowest[index] = Math.min(slowest[index] as number, offset);
    }
    if (slowest.every((offset) => offset === 0)) break;
  }
  // Without any reason to keep something nothing is known of it.
  return slowest.map((offset) => (offset === Number.POSITIVE_INFINITY ? 0 : offset));
}

/** What the own group has not handled, as it said of this very topic, and what dead letters refer to. */
export function ownGroup(cluster: Pick<Cluster, "committed">): TrimBound {
  return async (places) => {
    const positions = new Map<TrimPlace, number>();
    for (const [group, own] of Map.groupBy(places, (place) => place.group)) {
      const committed = await cluster.committed(group, own);
      for (const [index, place] of own.entries()) positions.set(place, positionIn(place, committed[index]));
    }
    return places.map((place) => positions.get(place));
  };
}

/** Whatever others committed says nothing of what was handled here. */
function positionIn({ topicId }: TrimPlace, commit: CommittedOffset | undefined): number {
  if (commit === undefined || commit.offset < 0) return 0;
  const { progress, of } = decodeProgress(commit);
  return of?.id === topicId ? Math.max(trimmableTo(progress), 0) : 0;
}

/** What other groups have not read that commit offsets there. `slow` is told of each that is behind the own group by much. */
export function otherGroups(
  positions: Pick<GroupPositions, "of">,
  slow: (place: TrimPlace, group: string) => void,
): TrimBound {
  return async (places) => {
    const groups = await positions.of(places);
    return places.map((place) => {
      let kept: number | undefined;
      const own = offsetIn(groups.find(({ group }) => group === place.group)?.offsets, place);
      for (const { group, offsets } of groups) {
        const offset = group === place.group ? undefined : offsetIn(offsets, place);
        if (offset === undefined) continue;
        kept = Math.min(offset, kept ?? offset);
        if (own !== undefined && own - offset >= MUCH) slow(place, group);
      }
      return kept;
    });
  };
}

const MUCH = 10_000;

function offsetIn(offsets: readonly CommittedOffset[] | undefined, at: TopicPartition): number | undefined {
  const found = offsets?.find(({ topic, partition }) => topic === at.topic && partition === at.partition);
  return found === undefined || found.offset < 0 ? undefined : found.offset;
}

/** Another group keeps much on the disk. */
export function slowGroupNotice({ topic }: TrimPlace, group: string): MessagingError {
  return new MessagingError(
    "conflict",
    `group "${oneLine(group, LONGEST_GROUP)}" is ${MUCH} offsets or more behind in topic "${topic}" on Kafka, and what it has not read stays on the disk: have it read, or delete the group if nobody needs it any more`,
  );
}

/** How often to trim. */
interface TrimTimes {
  /** Milliseconds that handled records stay at most. Default 60,000. */
  readonly everyMs?: number;
  /** So many handled records of one partition are not waited with. Default 10,000. */
  readonly many?: number;
}

const EVERY_MS = 60_000;
const MANY = 10_000;
/** However many are handled: every time all groups of the cluster may have to be asked. */
const LEAST_PAUSE_MS = 5_000;
/** Rights may be given meanwhile. */
const REFUSED_FOR_MS = 10 * 60_000;

const TOLD_AFTER_FAILURES = 10;

interface Grown extends TopicPartition {
  readonly group: string;
  /** Where it was trimmed last, or was when it was first heard of. */
  readonly from: number;
}

/**
 * Deletes what is handled from the topics that hold work: everything before the slowest position that there is a reason to
 * keep. Each process does so for the partitions that it consumes; nobody waits for it, and it only ever lags behind.
 */
export class Trimmer {
  readonly #cluster: Cluster;
  readonly #bounds: readonly TrimBound[];
  readonly #notice: (error: MessagingError) => void;
  readonly #everyMs: number;
  readonly #many: number;
  /** By partition, where something was handled since. */
  readonly #grown = new Map<string, Grown>();
  /** Topics where a right is missing, since when. */
  readonly #refused = new Map<string, number>();
  readonly #told = new Set<string>();
  /** How often in a row it could not be found out what may be deleted. */
  #failures = 0;
  #timer: NodeJS.Timeout | undefined;
  #trimmedAt = performance.now();
  #isHurried = false;
  #isTrimming = false;
  #isClosed = false;

  /** `bounds` are all reasons to keep a record. */
  constructor(
    cluster: Cluster,
    bounds: readonly TrimBound[],
    notice: (error: MessagingError) => void,
    times: TrimTimes = {},
  ) {
    this.#cluster = cluster;
    this.#bounds = bounds;
    this.#notice = notice;
    this.#everyMs = times.everyMs ?? EVERY_MS;
    this.#many = times.many ?? MANY;
  }

  /** Everything before this offset is handled and committed by the group. */
  progressed(group: string, { topic, partition, offset }: PartitionOffset): void {
    if (this.#isClosed || this.#isRefused(topic)) return;
    const place = `${topic} ${partition}`;
    const grown = this.#grown.get(place);
    if (grown === undefined) {
      this.#grown.set(place, { topic, partition, group, from: offset });
      this.#schedule(this.#everyMs);
    } else if (!this.#isHurried && offset - grown.from >= this.#many) {
      this.#isHurried = true;
      this.#schedule(Math.max(0, this.#trimmedAt + LEAST_PAUSE_MS - performance.now()));
    }
  }

  /** Ends it; a deletion under way is left to itself. A second call does nothing. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  #isRefused(topic: string): boolean {
    const since = this.#refused.get(topic);
    return since !== undefined && performance.now() - since < REFUSED_FOR_MS;
  }

  #schedule(ms: number): void {
    if (this.#isTrimming || this.#isClosed || (this.#timer !== undefined && !this.#isHurried)) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#trimAll(), ms).unref();
  }

  async #trimAll(): Promise<void> {
    this.#timer = undefined;
    this.#isTrimming = true;
    this.#isHurried = false;
    const byTopic = Map.groupBy(this.#grown.values(), ({ topic }) => topic);
    this.#grown.clear();
    const places: TrimPlace[] = [];
    for (const [topic, some] of byTopic) places.push(...(await this.#identify(topic, some)));
    if (places.length > 0) await this.#trim(places);
    this.#trimmedAt = performance.now();
    this.#isTrimming = false;
    if (this.#grown.size > 0) this.#schedule(this.#everyMs);
  }

  /** What is gone, or cannot be seen, is left alone. */
  async #identify(topic: string, places: readonly Grown[]): Promise<readonly TrimPlace[]> {
    const [found] = await this.#cluster.topics([topic]).catch(() => []);
    if (found === undefined) return [];
    return places.map(({ partition, group }) => ({ topic, topicId: found.id, partition, group }));
  }

  async #trim(places: readonly TrimPlace[]): Promise<void> {
    const topics = new Set(places.map(({ topic }) => topic));
    let slowest: readonly number[];
    try {
      slowest = await slowestPositions(places, this.#bounds);
      this.#failures = 0;
    } catch (error) {
      // Anything else may go well when more is handled.
      if (isMessagingError(error, "unauthorized")) {
        for (const topic of topics) this.#refuse(topic, unseenNotice(topic, error));
      } else if (++this.#failures === TOLD_AFTER_FAILURES && !this.#isClosed) {
        this.#notice(undecidedNotice([...topics], error));
      }
      return;
    }
    const handled = places.map((place, index) => ({ ...place, offset: slowest[index] as number }));
    for (const [topic, some] of Map.groupBy(handled, (place) => place.topic)) {
      const before = some.filter(({ offset }) => offset > 0);
      if (before.length > 0 && !this.#isClosed) await this.#delete(topic, before);
    }
  }

  async #delete(topic: string, before: readonly (TrimPlace & PartitionOffset)[]): Promise<void> {
    try {
      await this.#cluster.deleteRecords(before);
      const [found] = await this.#cluster.topics([topic]);
      // No request says which topic to delete from; it was this one right before.
      if (found?.id !== before[0]?.topicId) this.#notice(replacedNotice(topic, before));
    } catch (error) {
      if (isMessagingError(error, "unauthorized")) this.#refuse(topic, undeletedNotice(topic, error));
    }
  }

  #refuse(topic: string, notice: MessagingError): void {
    if (this.#isClosed) return;
    this.#refused.set(topic, performance.now());
    if (!this.#told.has(topic)) this.#notice(notice);
    this.#told.add(topic);
  }
}

function undeletedNotice(topic: string, cause: MessagingError): MessagingError {
  return new MessagingError(
    "unauthorized",
    `what is handled stays in topic "${topic}" on Kafka, for it may not be deleted: grant the right to delete records there, or set the option trim to "never" and delete them otherwise`,
    { cause },
  );
}

function unseenNotice(topic: string, cause: MessagingError): MessagingError {
  return new MessagingError(
    "unauthorized",
    `what is handled stays in topic "${topic}" on Kafka, for others may read there and it cannot be seen how far they are: grant the right to describe the cluster and all groups, or set the option trim to "exclusive" if nobody else reads there`,
    { cause },
  );
}

function undecidedNotice(topics: readonly string[], cause: unknown): MessagingError {
  const names = topics.map((topic) => `"${topic}"`).join(", ");
  return new MessagingError(
    "unreachable",
    `what is handled stays in ${names} on Kafka, for it could not be found out ${TOLD_AFTER_FAILURES} times in a row up to where it may be deleted; see the cause; it is tried again`,
    { cause },
  );
}

function replacedNotice(topic: string, before: readonly PartitionOffset[]): MessagingError {
  const places = before.map(({ partition, offset }) => `${offset} of partition ${partition}`).join(", ");
  return new MessagingError(
    "conflict",
    `topic "${topic}" on Kafka was deleted and made again just while handled records were deleted: in the new one everything before offset ${places} may be gone; find out who deleted the topic`,
  );
}
