import { isMessagingError, MessagingError } from "../../../core/errors.ts";
import { oneLine } from "../../../core/foreign.ts";
import type { Cluster } from "../cluster.ts";
import { decodeProgress, trimmableTo } from "../consuming/progress.ts";
import type { CommittedOffset, PartitionOffset, TopicId, TopicPartition } from "../port.ts";
import { type GroupPositions, MAX_GROUP } from "./positions.ts";

/** A partition from which handled records are deleted. */
export interface TrimTarget extends TopicPartition {
  /** The id of the topic: others of that name are not trimmed. */
  readonly topicId: TopicId;
  /** The group that handles the topic. */
  readonly group: string;
}

/**
 * A reason to keep records: for each target, the first offset to keep; undefined for none. If it rejects, nothing is
 * deleted.
 */
export type TrimBound = (targets: readonly TrimTarget[]) => Promise<readonly (number | undefined)[]>;

/** The lowest offset that any bound keeps, for each target. Rejects if a bound does. */
export async function slowestPositions(
  targets: readonly TrimTarget[],
  bounds: readonly TrimBound[],
): Promise<readonly number[]> {
  const slowest = targets.map(() => Number.POSITIVE_INFINITY);
  for (const bound of bounds) {
    const kept = await bound(targets);
    for (const [index, offset = Number.POSITIVE_INFINITY] of kept.entries()) {
      slowest[index] = Math.min(slowest[index] as number, offset);
    }
    if (slowest.every((offset) => offset === 0)) break;
  }
  // Without any bound nothing may be deleted.
  return slowest.map((offset) => (offset === Number.POSITIVE_INFINITY ? 0 : offset));
}

/** Keeps what the own group has not handled in this very topic, and what dead letters refer to. */
export function ownGroup(cluster: Pick<Cluster, "committed">): TrimBound {
  return async (targets) => {
    const positions = new Map<TrimTarget, number>();
    for (const [group, own] of Map.groupBy(targets, (target) => target.group)) {
      const committed = await cluster.committed(group, own);
      for (const [index, target] of own.entries()) positions.set(target, positionIn(target, committed[index]));
    }
    return targets.map((target) => positions.get(target));
  };
}

/** Foreign commits say nothing about handled messages. */
function positionIn({ topicId }: TrimTarget, commit: CommittedOffset | undefined): number {
  if (commit === undefined || commit.offset < 0) return 0;
  const { progress, of } = decodeProgress(commit);
  return of?.id === topicId ? Math.max(trimmableTo(progress), 0) : 0;
}

/** Keeps what other groups with commits have not read. Calls `slow` for each group far behind the own one. */
export function otherGroups(
  positions: Pick<GroupPositions, "of">,
  slow: (target: TrimTarget, group: string) => void,
): TrimBound {
  return async (targets) => {
    const groups = await positions.of(targets);
    return targets.map((target) => {
      let kept: number | undefined;
      const own = offsetIn(groups.find(({ group }) => group === target.group)?.offsets, target);
      for (const { group, offsets } of groups) {
        const offset = group === target.group ? undefined : offsetIn(offsets, target);
        if (offset === undefined) continue;
        kept = Math.min(offset, kept ?? offset);
        if (own !== undefined && own - offset >= SLOW_FROM_OFFSETS) slow(target, group);
      }
      return kept;
    });
  };
}

const SLOW_FROM_OFFSETS = 10_000;

function offsetIn(offsets: readonly CommittedOffset[] | undefined, at: TopicPartition): number | undefined {
  const found = offsets?.find(({ topic, partition }) => topic === at.topic && partition === at.partition);
  return found === undefined || found.offset < 0 ? undefined : found.offset;
}

/** Another group keeps many records on the disk. */
export function slowGroupNotice({ topic }: TrimTarget, group: string): MessagingError {
  return new MessagingError(
    "conflict",
    `group "${oneLine(group, MAX_GROUP)}" is ${SLOW_FROM_OFFSETS} offsets or more behind in topic "${topic}" on Kafka, and its unread records stay on the disk: let it read them, or delete the group if no consumer needs it any more`,
  );
}

/** When to trim. */
interface TrimTimes {
  /** The longest time that handled records stay, in milliseconds. Default 60,000. */
  readonly everyMs?: number;
  /** So many handled records of a partition are deleted earlier. Default 10,000. */
  readonly many?: number;
}

const EVERY_MS = 60_000;
const DEFAULT_MANY = 10_000;
/** The shortest pause: each time, all groups of the cluster may be asked. */
const MIN_PAUSE_MS = 5_000;
/** How long a missing right is not asked for again. */
const REFUSED_FOR_MS = 10 * 60_000;

const REPORT_AFTER_FAILURES = 10;

interface TrimCandidate extends TopicPartition {
  readonly group: string;
  /** Where it was trimmed last, or first seen. */
  readonly from: number;
}

/**
 * Deletes handled records of work topics, up to the lowest offset that a bound keeps. Each process trims the partitions
 * that it consumes, in the background.
 */
export class Trimmer {
  readonly #cluster: Cluster;
  readonly #bounds: readonly TrimBound[];
  readonly #notice: (error: MessagingError) => void;
  readonly #everyMs: number;
  readonly #many: number;
  /** By partition, those with newly handled records. */
  readonly #candidates = new Map<string, TrimCandidate>();
  /** Topics with a missing right, since when. */
  readonly #refused = new Map<string, number>();
  readonly #reported = new Set<string>();
  /** How often in a row the bounds failed. */
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
    this.#many = times.many ?? DEFAULT_MANY;
  }

  /** Everything before this offset is handled and committed by the group. */
  progressed(group: string, { topic, partition, offset }: PartitionOffset): void {
    if (this.#isClosed || this.#isRefused(topic)) return;
    const target = `${topic} ${partition}`;
    const candidate = this.#candidates.get(target);
    if (candidate === undefined) {
      this.#candidates.set(target, { topic, partition, group, from: offset });
      this.#schedule(this.#everyMs);
    } else if (!this.#isHurried && offset - candidate.from >= this.#many) {
      this.#isHurried = true;
      this.#schedule(Math.max(0, this.#trimmedAt + MIN_PAUSE_MS - performance.now()));
    }
  }

  /** Ends trimming, except a deletion under way. A second call does nothing. */
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
    const byTopic = Map.groupBy(this.#candidates.values(), ({ topic }) => topic);
    this.#candidates.clear();
    const targets: TrimTarget[] = [];
    for (const [topic, some] of byTopic) targets.push(...(await this.#identify(topic, some)));
    if (targets.length > 0) await this.#trim(targets);
    this.#trimmedAt = performance.now();
    this.#isTrimming = false;
    if (this.#candidates.size > 0) this.#schedule(this.#everyMs);
  }

  /** Missing and invisible topics are left alone. */
  async #identify(topic: string, targets: readonly TrimCandidate[]): Promise<readonly TrimTarget[]> {
    const [found] = await this.#cluster.topics([topic]).catch(() => []);
    if (found === undefined) return [];
    return targets.map(({ partition, group }) => ({ topic, topicId: found.id, partition, group }));
  }

  async #trim(targets: readonly TrimTarget[]): Promise<void> {
    const topics = new Set(targets.map(({ topic }) => topic));
    let slowest: readonly number[];
    try {
      slowest = await slowestPositions(targets, this.#bounds);
      this.#failures = 0;
    } catch (error) {
      // Other failures may pass until the next time.
      if (isMessagingError(error, "unauthorized")) {
        for (const topic of topics) this.#refuse(topic, unseenNotice(topic, error));
      } else if (++this.#failures === REPORT_AFTER_FAILURES && !this.#isClosed) {
        this.#notice(undecidedNotice([...topics], error));
      }
      return;
    }
    const handled = targets.map((target, index) => ({ ...target, offset: slowest[index] as number }));
    for (const [topic, some] of Map.groupBy(handled, (target) => target.topic)) {
      const before = some.filter(({ offset }) => offset > 0);
      if (before.length > 0 && !this.#isClosed) await this.#delete(topic, before);
    }
  }

  async #delete(topic: string, before: readonly (TrimTarget & PartitionOffset)[]): Promise<void> {
    try {
      await this.#cluster.deleteRecords(before);
      const [found] = await this.#cluster.topics([topic]);
      // Deletion addresses topics by name, so check the id again.
      if (found?.id !== before[0]?.topicId) this.#notice(replacedNotice(topic, before));
    } catch (error) {
      if (isMessagingError(error, "unauthorized")) this.#refuse(topic, undeletedNotice(topic, error));
    }
  }

  #refuse(topic: string, notice: MessagingError): void {
    if (this.#isClosed) return;
    this.#refused.set(topic, performance.now());
    if (!this.#reported.has(topic)) this.#notice(notice);
    this.#reported.add(topic);
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
    `handled records stay in topic "${topic}" on Kafka, because the positions of other groups are unknown: grant the right to describe the cluster and all groups, or set the option trim to "exclusive" if no other group reads there`,
    { cause },
  );
}

function undecidedNotice(topics: readonly string[], cause: unknown): MessagingError {
  const names = topics.map((topic) => `"${topic}"`).join(", ");
  return new MessagingError(
    "unreachable",
    `what is handled stays in ${names} on Kafka, for it could not be found out ${REPORT_AFTER_FAILURES} times in a row up to where it may be deleted; see the cause; it is tried again`,
    { cause },
  );
}

function replacedNotice(topic: string, before: readonly PartitionOffset[]): MessagingError {
  const targets = before.map(({ partition, offset }) => `${offset} of partition ${partition}`).join(", ");
  return new MessagingError(
    "conflict",
    `topic "${topic}" on Kafka was deleted and made again just while handled records were deleted: in the new one everything before offset ${targets} may be gone; find out who deleted the topic`,
  );
}
