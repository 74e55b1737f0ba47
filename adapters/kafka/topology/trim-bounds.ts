import { MessagingError } from "../../../core/errors.ts";
import type { Cluster } from "../cluster.ts";
import { decodeProgress, trimmableTo } from "../consuming/progress.ts";
import type { CommittedOffset, TopicId, TopicPartition } from "../port.ts";
import type { GroupPositions } from "./group-positions.ts";

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
    `group "${group}" is ${MUCH} offsets or more behind in topic "${topic}" on Kafka, and what it has not read stays on the disk: have it read, or delete the group if nobody needs it any more`,
  );
}
