import { MessagingError } from "../../../core/errors.ts";
import { operationError } from "../errors.ts";
import type { GroupOffsets, KafkaConnection, ListedGroup, TopicPartition } from "../port.ts";

type Connection = Pick<
  KafkaConnection,
  "metadata" | "clusterRights" | "listGroups" | "fetchGroupsOffsets" | "fetchShareGroupOffsets" | "coordinator"
>;

/** So many groups are asked about in one request. */
const MOST_IN_A_REQUEST = 100;
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
    if (!rights.has("describe")) throw unseen();
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
    for (let from = 0; from < committing.length; from += MOST_IN_A_REQUEST) {
      const names = committing.slice(from, from + MOST_IN_A_REQUEST).map(({ group }) => group);
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

function unseen(): MessagingError {
  return new MessagingError(
    "unauthorized",
    "not every group on Kafka can be seen: that takes the right to describe the cluster, and the groups",
  );
}
