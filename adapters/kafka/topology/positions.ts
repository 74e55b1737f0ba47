import { setTimeout as pause } from "node:timers/promises";
import type { Depth, StartPosition } from "../../../core/adapter.ts";
import { describeAddress, type SubscriptionAddress, type WorkAddress } from "../../../core/address.ts";
import { DECLARE_IT, isMessagingError, MessagingError } from "../../../core/errors.ts";
import type { Cluster } from "../cluster.ts";
import { beginning, encodeProgress, type Progress, progressIn } from "../consuming/progress.ts";
import { operationError } from "../errors.ts";
import { groupName, topicName, topicsOf } from "../names.ts";
import type { GroupOffsets, KafkaConnection, ListedGroup, PartitionOffset, TopicPartition } from "../port.ts";
import type { TopicIdentity } from "../topic-identity.ts";

/** Consumers that are just leaving are waited for, so often and so long in between. */
const MEMBER_CHECKS = 12;
const CHECK_PAUSE_MS = 250;

/** A position in a topic, and what is committed with it. */
interface Position extends PartitionOffset {
  readonly metadata: string;
}

/** Positions in one topic. */
interface Positions {
  readonly topic: TopicIdentity;
  readonly offsets: readonly Position[];
}

/**
 * Gives a new subscription its position. Two processes may do so at once, and one may consume already: the ends of the
 * logs are asked for before it is looked whether a position stands, so that whoever comes second may set it earlier than
 * the first did, but never behind an event that was published after the first was done.
 */
export async function initializePosition(
  cluster: Cluster,
  of: SubscriptionAddress,
  from: StartPosition,
): Promise<void> {
  const group = groupName(of);
  const missing = await withoutCommit(cluster, group, await offsetsAt(cluster, of, from));
  if (missing.length === 0 || (await cluster.commitForEmptyGroup(group, missing))) return;
  // Somebody consumes already, and begins at the earliest event where there is no position.
}

/**
 * Gives a subscription that exists a position where it has none: at the earliest event kept, for nobody knows how far it
 * was. Neither has it one that belonged to a topic which was there before. Resolves with whether it had none at all, though
 * there are events.
 */
export async function repairPosition(cluster: Cluster, of: SubscriptionAddress): Promise<boolean> {
  const group = groupName(of);
  const earliest = await offsetsAt(cluster, of, "earliest");
  const missing = await withoutCommit(cluster, group, earliest);
  if (missing.length === 0) return false;
  const committed = await cluster.commitForEmptyGroup(group, missing);
  const { offsets } = earliest;
  if (!committed || missing.length < offsets.length) return false;
  const ends = await cluster.listOffsets(offsets.map(({ topic, partition }) => ({ topic, partition, at: "latest" })));
  return ends.some((end, index) => end > (offsets[index]?.offset ?? 0));
}

/** Moves a subscription that nobody consumes from. Rejects with `conflict` while somebody does, `not-found`, `invalid`. */
export async function rewind(cluster: Cluster, of: SubscriptionAddress, to: StartPosition): Promise<void> {
  const group = groupName(of);
  await cluster.topics([of.topic, topicName(of)]).catch((error: unknown) => {
    if (!isMessagingError(error, "not-found")) throw error;
    throw new MessagingError("not-found", `Kafka has no ${describeAddress(of)}; ${DECLARE_IT}`, { cause: error });
  });
  let members = await cluster.members(group);
  for (let checks = 1; members > 0 && checks < MEMBER_CHECKS; checks++) {
    await pause(CHECK_PAUSE_MS);
    members = await cluster.members(group);
  }
  if (members > 0) throw stillConsumed(of, `${members} consumers are`);
  const { offsets } = await offsetsAt(cluster, of, to);
  if (!(await cluster.commitForEmptyGroup(group, offsets))) throw stillConsumed(of, "a consumer is");
}

function stillConsumed(of: SubscriptionAddress, who: string): MessagingError {
  return new MessagingError(
    "conflict",
    `${describeAddress(of)} cannot be rewound while ${who} in group "${groupName(of)}": stop its consumers in every process first; one that was killed is missed after its session timeout`,
  );
}

/** Those for which nothing is committed. */
async function withoutCommit(
  cluster: Cluster,
  group: string,
  { topic, offsets }: Positions,
): Promise<readonly Position[]> {
  const committed = await cluster.committed(group, offsets);
  return offsets.filter((_, index) => {
    const commit = committed[index];
    return commit === undefined || progressIn(topic, commit) === undefined;
  });
}

async function offsetsAt(cluster: Cluster, of: SubscriptionAddress, position: StartPosition): Promise<Positions> {
  const { topic } = of;
  const [found] = await cluster.topics([topic]);
  if (found === undefined) throw new MessagingError("not-found", `Kafka says nothing of topic "${topic}"`);
  const { id: topicId, identity } = found;
  const partitions = found.partitions.map(({ partition }) => ({ topic, topicId, partition }));
  const list = (at: "earliest" | "latest" | number): Promise<readonly number[]> =>
    cluster.listOffsets(partitions.map((partition) => ({ ...partition, at })));
  const positionsAt = (offsets: readonly number[]): Positions => ({
    topic: identity,
    offsets: partitions.map(({ partition }, index) => {
      const offset = offsets[index] as number;
      return { topic, partition, offset, metadata: encodeProgress(beginning(offset), identity) };
    }),
  });
  if (position === "earliest") return positionsAt(await list("earliest"));
  const ends = await list("latest");
  if (position === "now") return positionsAt(ends);
  if (position instanceof Date) {
    const found = await list(position.getTime());
    // Nothing is as late as that: what comes next is. The end as it was before, for some may have come meanwhile.
    return positionsAt(found.map((offset, index) => (offset < 0 ? (ends[index] as number) : offset)));
  }
  const starts = await list("earliest");
  const offsets = [...starts];
  for (const { partition, offset } of position.offsets) {
    const index = partitions.findIndex((one) => one.partition === partition);
    const [start, end] = [starts[index], ends[index]];
    if (start === undefined || end === undefined) throw outside(of, `has no partition ${partition}`);
    if (offset < start || offset > end) {
      throw outside(of, `keeps offsets ${start} to ${end} in partition ${partition}, not ${offset}`);
    }
    offsets[index] = offset;
  }
  return positionsAt(offsets);
}

function outside(of: SubscriptionAddress, why: string): MessagingError {
  return new MessagingError(
    "invalid",
    `${describeAddress(of)} cannot begin there: topic "${of.topic}" on Kafka ${why}; give offsets that are kept`,
  );
}

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

type Connection = Pick<
  KafkaConnection,
  "metadata" | "clusterRights" | "listGroups" | "fetchGroupsOffsets" | "fetchShareGroupOffsets" | "coordinator"
>;

/** So many groups are asked about in one request. */
const MAX_PER_REQUEST = 100;
const SHARE = "share";
const NO_GROUP = "GROUP_ID_NOT_FOUND";

/** Finds out how far all the groups of a cluster are in some partitions, whoever they belong to. */
export class GroupPositions {
  readonly #connection: Connection;
  /** Those that were found to read there. While a group moves from one node to another neither may list it. */
  readonly #readers = new Map<string, ListedGroup>();

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /**
   * What every group has committed, of those that committed something there. Rejects with `unauthorized` unless all groups
   * can be seen, and with `unreachable` if some cannot be asked just now.
   */
  async of(partitions: readonly TopicPartition[]): Promise<readonly GroupOffsets[]> {
    const rights = await this.#connection.clusterRights();
    if (!rights.has("describe")) throw notAllVisible();
    const { nodes } = await this.#connection.metadata([]);
    const found: GroupOffsets[] = [];
    const listed = new Set<string>();
    for (const node of nodes) {
      const { error, groups } = await this.#connection.listGroups(node);
      if (error !== undefined) throw operationError(error, "list the groups", "it is tried again");
      for (const { group } of groups) listed.add(group);
      found.push(...(await this.#askAll(node, groups, partitions)));
    }
    for (const [group, reader] of this.#readers) {
      if (!listed.has(group)) found.push(...(await this.#askAll(await this.#coordinator(group), [reader], partitions)));
    }
    const reading = found.filter(({ offsets }) => offsets.some(({ offset }) => offset >= 0));
    const names = new Set(reading.map(({ group }) => group));
    for (const group of this.#readers.keys()) if (!names.has(group)) this.#readers.delete(group);
    return reading;
  }

  async #coordinator(group: string): Promise<number> {
    const { error, node } = await this.#connection.coordinator(group);
    if (error === undefined) return node;
    throw operationError(error, `find the coordinator of group "${group}"`, "it is tried again");
  }

  async #askAll(
    node: number,
    groups: readonly ListedGroup[],
    partitions: readonly TopicPartition[],
  ): Promise<readonly GroupOffsets[]> {
    const found: GroupOffsets[] = [];
    const [sharing, committing] = [groups.filter(isSharing), groups.filter((one) => !isSharing(one))];
    for (let from = 0; from < committing.length; from += MAX_PER_REQUEST) {
      const names = committing.slice(from, from + MAX_PER_REQUEST).map(({ group }) => group);
      found.push(...(await this.#connection.fetchGroupsOffsets(node, names, partitions)));
    }
    for (const { group } of sharing) {
      found.push(await this.#connection.fetchShareGroupOffsets(node, group, partitions));
    }
    for (const { group } of groups) {
      if (!found.some((one) => one.group === group)) throw unanswered(group, "NO_ANSWER");
    }
    const answers = found.filter(({ error }) => error !== NO_GROUP);
    for (const { group, error, offsets } of answers) {
      const problem = error ?? offsets.find((offset) => offset.error !== undefined)?.error;
      if (problem !== undefined) throw unanswered(group, problem);
      const reader = groups.find((one) => one.group === group);
      if (reader !== undefined && offsets.some(({ offset }) => offset >= 0)) this.#readers.set(group, reader);
    }
    return answers;
  }
}

function isSharing({ protocolType }: ListedGroup): boolean {
  return protocolType === SHARE;
}

function unanswered(group: string, error: string): MessagingError {
  return operationError(error, `see how far group "${group}" is`, "it is tried again");
}

function notAllVisible(): MessagingError {
  return new MessagingError(
    "unauthorized",
    "not every group on Kafka can be seen: that takes the right to describe the cluster, and the groups",
  );
}
