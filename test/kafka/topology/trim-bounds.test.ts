import { describe, expect, test } from "vitest";
import { beginning, encodeProgress } from "../../../adapters/kafka/consuming/progress.ts";
import type { CommittedOffset, GroupOffsets, ListedGroup, TopicPartition } from "../../../adapters/kafka/port.ts";
import { GroupPositions } from "../../../adapters/kafka/topology/positions.ts";
import {
  otherGroups,
  ownGroup,
  slowestPositions,
  type TrimBound,
  type TrimTarget,
} from "../../../adapters/kafka/topology/trimmer.ts";
import { isMessagingError, MessagingError } from "../../../core/errors.ts";
import { CLUSTER_ID, identity, topicId } from "../topic-ids.ts";

const at = (partition: number): TrimTarget => {
  return { topic: "orders", topicId: topicId("orders"), partition, group: "orders" };
};
const PLACES = [at(0), at(1)];
const commit = (partition: number, offset: number, metadata = ""): CommittedOffset => {
  return { topic: "orders", partition, error: undefined, offset, metadata };
};
const handled = (partition: number, offset: number, life = 1) =>
  commit(partition, offset, encodeProgress(beginning(offset), identity("orders", life)));
const keeping =
  (...offsets: (number | undefined)[]): TrimBound =>
  async () =>
    offsets;

/** What can be asked of a cluster with these groups, by node. */
function groups(
  nodes: Readonly<Record<number, Readonly<Record<string, readonly CommittedOffset[] | string>>>>,
  kinds: Readonly<Record<string, string>> = {},
) {
  const asked: string[] = [];
  const state = { nodes, rights: new Set(["describe" as const]), listing: undefined as string | undefined };
  const found = (node: number, group: string): GroupOffsets => {
    asked.push(group);
    const offsets = state.nodes[node]?.[group];
    if (typeof offsets === "string") return { group, error: offsets, offsets: [] };
    return { group, error: offsets === undefined ? "NOT_COORDINATOR" : undefined, offsets: offsets ?? [] };
  };
  const kindOf = (group: string): string => kinds[group] ?? "consumer";
  const positions = new GroupPositions({
    metadata: async () => ({ clusterId: CLUSTER_ID, nodes: Object.keys(state.nodes).map(Number), topics: [] }),
    clusterRights: async () => state.rights,
    listGroups: async (node) => {
      const listed = Object.keys(state.nodes[node] ?? {});
      return {
        error: state.listing,
        groups: listed.map((group): ListedGroup => ({ group, protocolType: kindOf(group) })),
      };
    },
    fetchGroupsOffsets: async (node, names) => names.map((name) => found(node, name)),
    fetchShareGroupOffsets: async (node, name) => found(node, name),
    coordinator: async (group) => {
      const [node] = Object.entries(state.nodes).find(([, own]) => group in own) ?? ["-1"];
      return { error: undefined, node: Number(node) };
    },
  });
  return { positions, asked, state };
}

describe("the slowest position", () => {
  test("is the lowest of all reasons to keep something", async () => {
    expect(await slowestPositions(PLACES, [keeping(9, 4), keeping(undefined, 7), keeping(12, 3)])).toEqual([9, 3]);
  });

  test("is the beginning where there is no reason at all, and cannot be told where one cannot tell", async () => {
    expect(await slowestPositions(PLACES, [])).toEqual([0, 0]);
    const unsure: TrimBound = () => Promise.reject(new MessagingError("unreachable", "nobody there"));
    await expect(slowestPositions(PLACES, [keeping(9, 9), unsure])).rejects.toMatchObject({ code: "unreachable" });
  });

  test("of the own group is what it said of this very topic, and no other's word", async () => {
    const own = (...offsets: CommittedOffset[]) => ownGroup({ committed: async () => offsets })(PLACES);
    expect(await own(handled(0, 30), handled(1, 0))).toEqual([30, 0]);
    // Of the topic that was there before, by a tool, and none.
    expect(await own(handled(0, 30, 2), commit(1, 12))).toEqual([0, 0]);
    expect(await own(commit(0, -1), commit(1, 5, "by a tool"))).toEqual([0, 0]);
  });

  test("of others is that of the slowest that commits there, who is told of if it is far behind", async () => {
    const slow: string[] = [];
    const { positions } = groups({
      1: { orders: [handled(0, 50_000), handled(1, 40)], billing: [commit(0, 20), commit(1, -1)] },
      2: { audit: [commit(0, 49_000), commit(1, 35)], elsewhere: [] },
    });
    const bound = otherGroups(positions, ({ partition }, group) => slow.push(`${group} in ${partition}`));
    expect(await bound(PLACES)).toEqual([20, 35]);
    expect(slow).toEqual(["billing in 0"]);
    // As if it had read everything: what no log reaches keeps nothing.
    const odd = groups({ 1: { orders: [handled(0, 5)], odd: [commit(0, Number.MAX_SAFE_INTEGER)] } });
    const bounds = [keeping(5, 5), otherGroups(odd.positions, () => undefined)];
    expect(await slowestPositions(PLACES, bounds)).toEqual([5, 5]);
    const nobody = groups({ 1: { orders: [handled(0, 5)] } });
    expect(await otherGroups(nobody.positions, () => undefined)(PLACES)).toEqual([undefined, undefined]);
  });
});

describe("the positions of all groups", () => {
  const PARTITIONS: readonly TopicPartition[] = PLACES.map(({ topic, partition }) => ({ topic, partition }));

  test("are those of share groups too, and of groups by the hundred", async () => {
    const many = Object.fromEntries(Array.from({ length: 250 }, (_, index) => [`g${index}`, [commit(0, index + 1)]]));
    const { positions, asked } = groups({ 1: { ...many, sharing: [commit(0, 3)] } }, { sharing: "share" });
    expect((await positions.of(PARTITIONS)).map(({ group }) => group)).toEqual([...Object.keys(many), "sharing"]);
    expect(asked).toHaveLength(251);
  });

  test("take the right to see them all", async () => {
    const { positions, state } = groups({ 1: { billing: [commit(0, 3)] } });
    state.rights = new Set();
    await expect(positions.of(PARTITIONS)).rejects.toMatchObject({ code: "unauthorized" });
    const hidden = groups({ 1: { billing: "GROUP_AUTHORIZATION_FAILED" } });
    await expect(hidden.positions.of(PARTITIONS)).rejects.toMatchObject({
      code: "unauthorized",
      message: expect.stringContaining('"billing"') as string,
    });
  });

  test("are not known while one cannot be asked, and those of a group that is gone are none", async () => {
    const loading = groups({ 1: { billing: "GROUP_LOAD_IN_PROGRESS" } });
    await expect(loading.positions.of(PARTITIONS)).rejects.toSatisfy((error) => isMessagingError(error, "unreachable"));
    const starting = groups({ 1: {} });
    starting.state.listing = "COORDINATOR_LOAD_IN_PROGRESS";
    await expect(starting.positions.of(PARTITIONS)).rejects.toMatchObject({ code: "unreachable" });
    const gone = groups({ 1: { billing: "GROUP_ID_NOT_FOUND" } });
    expect(await gone.positions.of(PARTITIONS)).toEqual([]);
  });

  test("are asked for by name of a group that was found before and moves just now", async () => {
    const billing = [commit(0, 3)];
    const { positions, state } = groups({ 1: { billing }, 2: {} });
    expect(await positions.of(PARTITIONS)).toHaveLength(1);
    // Listed by the one no more, and by the other not yet.
    const hidden = Object.defineProperty({ billing }, "billing", { enumerable: false, value: billing });
    state.nodes = { 1: {}, 2: hidden };
    expect((await positions.of(PARTITIONS)).map(({ group }) => group)).toEqual(["billing"]);
    state.nodes = { 1: {}, 2: { billing: [commit(0, -1)] } };
    expect(await positions.of(PARTITIONS)).toEqual([]);
  });
});
