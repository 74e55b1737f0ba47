import { setTimeout as pause } from "node:timers/promises";
import type { Depth, StartPosition } from "../../../core/adapter.ts";
import { describeAddress, type SubscriptionAddress, type WorkAddress } from "../../../core/address.ts";
import { DECLARE_IT, isMessagingError, MessagingError } from "../../../core/errors.ts";
import { oneLine } from "../../../core/foreign.ts";
import type { Cluster } from "../cluster.ts";
import { beginning, encodeProgress, type Progress, progressIn } from "../consuming/progress.ts";
import { operationError } from "../errors.ts";
import { groupName, type TopicIdentity, topicName, topicsOf } from "../names.ts";
import type { GroupOffsets, KafkaConnection, ListedGroup, PartitionOffset, TopicPartition } from "../port.ts";
/** The longest group name that is quoted. */
export const MAX_GROUP = 255;

/** How often it is checked whether the last consumers have left. */
const MEMBER_CHECKS = 12;
const CHECK_PAUSE_MS = 250;

/** A position in a partition, with the metadata to commit. */
interface Position extends PartitionOffset {
  readonly metadata: string;
}

/** The positions in a topic. */
interface Positions {
  readonly topic: TopicIdentity;
  readonly offsets: readonly Position[];
}

/**
 * Sets the position of a new subscription. Two processes may do so at once, and one may already consume. The log ends
 * are read before the check for a position: the second process may set it earlier than the first did, but never behind
 * an event published after the first was done.
 */
export async function initializePosition(
  cluster: Cluster,
  of: SubscriptionAddress,
  from: StartPosition,
): Promise<void> {
  const group = groupName(of);
  const missing = await withoutCommit(cluster, group, await offsetsAt(cluster, of, from));
  if (missing.length === 0 || (await cluster.commitForEmptyGroup(group, missing))) return;
  // A consumer is active; without a position it starts at the earliest event.
}

/**
 * Sets a missing position of an existing subscription to the earliest event kept, since its progress is unknown. A
 * position in an earlier topic of that name counts as missing. Resolves with whether the subscription had no position
 * although there are events.
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

/**
 * Moves a subscription without consumers. Rejects with `conflict` while there are any, with `not-found` or `invalid`.
 */
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

/** The positions for which nothing is committed. */
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
    // No event is as late: start at the end. The end was read before, so that no event in between is missed.
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
 * Counts how far a group is behind the log ends. Includes unsettled deliveries and events that a filter skips. Rejects
 * with `not-found`.
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
  // Read last, so that no valid commit lies beyond it.
  const ends = await cluster.listOffsets(partitions.map((partition) => ({ ...partition, at: "latest" })));
  let ready = 0;
  for (const [index, { identity }] of partitions.entries()) {
    const [start = 0, end = 0, commit] = [starts[index], ends[index], committed[index]];
    // Commits of an earlier topic, and commits beyond the log, do not count.
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

/** The most groups in a request. */
const MAX_PER_REQUEST = 100;
const SHARE = "share";
const NO_GROUP = "GROUP_ID_NOT_FOUND";

/** Finds the committed offsets of all groups of a cluster. */
export class GroupPositions {
  readonly #connection: Connection;
  /** Groups that were found to read there: while a group moves between nodes, neither may list it. */
  readonly #readers = new Map<string, ListedGroup>();

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /**
   * The offsets of every group with a commit in these partitions. Rejects with `unauthorized` unless all groups are
   * visible, and with `unreachable` if some cannot be asked now.
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
    throw operationError(error, `find the coordinator of group "${oneLine(group, MAX_GROUP)}"`, "it is tried again");
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
  return operationError(error, `see how far group "${oneLine(group, MAX_GROUP)}" is`, "it is tried again");
}

function notAllVisible(): MessagingError {
  return new MessagingError(
    "unauthorized",
    "not every group on Kafka can be seen: that takes the right to describe the cluster, and the groups",
  );
}
