import type { Depth } from "../../../core/adapter.ts";
import type { WorkAddress } from "../../../core/address.ts";
import type { Cluster } from "../cluster.ts";
import { beginning, type Progress, progressIn } from "../consuming/progress.ts";
import { groupName, topicsOf } from "../names.ts";

/**
 * How far a group is behind the ends of its logs. What it delivered and did not settle yet counts as ready, and so does
 * what a filter will pass over. Rejects with `not-found`.
 */
export async function lag(cluster: Cluster, of: WorkAddress): Promise<Depth> {
  const topics = await cluster.topics(topicsOf(of));
  const partitions = topics.flatMap(({ topic, identity, partitions: some }) =>
    some.map(({ partition }) => ({ topic, identity, partition })),
  );
  const [starts, committed] = await Promise.all([
    cluster.listOffsets(partitions.map((partition) => ({ ...partition, at: "earliest" }))),
    cluster.committed(groupName(of), partitions),
  ]);
  // Asked for last, so that no commit lies beyond it but one that was never right.
  const ends = await cluster.listOffsets(partitions.map((partition) => ({ ...partition, at: "latest" })));
  let ready = 0;
  for (const [index, { identity }] of partitions.entries()) {
    const [start = 0, end = 0, commit] = [starts[index], ends[index], committed[index]];
    // What was committed for a topic that was there before counts for nothing; nor does what the log does not reach.
    const said = commit === undefined || commit.offset > end ? undefined : progressIn(identity, commit);
    const progress = said ?? beginning(start);
    const from = Math.max(progress.offset, start);
    if (from < end) ready += end - from - finishedBetween(progress, from, end);
  }
  return { ready, unsettled: undefined, exact: false };
}

function finishedBetween({ finished }: Progress, from: number, end: number): number {
  let count = 0;
  for (const offset of finished) if (offset >= from && offset < end) count++;
  return count;
}
