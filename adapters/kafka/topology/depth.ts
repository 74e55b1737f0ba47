import type { Depth } from "../../../core/adapter.ts";
import type { SuspectsAddress, WorkAddress } from "../../../core/address.ts";
import type { Cluster } from "../cluster.ts";
import { decodeProgress } from "../consuming/progress.ts";
import { groupName, topicsOf } from "../names.ts";
import type { CommittedOffset, TopicPartition } from "../port.ts";

/**
 * How far a group is behind the ends of its logs. What it delivered and did not settle yet counts as ready, and so does
 * what a filter will pass over. Rejects with `not-found`.
 */
export async function lag(cluster: Cluster, of: WorkAddress | SuspectsAddress): Promise<Depth> {
  const topics = await cluster.topics(topicsOf(of));
  const partitions = topics.flatMap(({ topic, partitions: some }) =>
    some.map(({ partition }): TopicPartition => ({ topic, partition })),
  );
  const [starts, committed, ends] = await Promise.all([
    cluster.listOffsets(partitions.map((partition) => ({ ...partition, at: "earliest" }))),
    cluster.committed(groupName(of), partitions),
    cluster.listOffsets(partitions.map((partition) => ({ ...partition, at: "latest" }))),
  ]);
  let ready = 0;
  for (const [index, one] of committed.entries()) {
    const [start = 0, end = 0] = [starts[index], ends[index]];
    const from = Math.max(one.offset, start);
    if (from < end) ready += end - from - finishedBetween(one, from, end);
  }
  return { ready, unsettled: undefined, exact: false };
}

function finishedBetween({ offset, metadata }: CommittedOffset, from: number, end: number): number {
  if (offset < 0) return 0;
  let count = 0;
  for (const finished of decodeProgress(offset, metadata).finished) if (finished >= from && finished < end) count++;
  return count;
}
