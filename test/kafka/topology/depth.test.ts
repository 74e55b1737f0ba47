import { expect, test } from "vitest";
import type { Cluster } from "../../../adapters/kafka/cluster.ts";
import { beginning, encodeProgress } from "../../../adapters/kafka/consuming/progress.ts";
import { lag } from "../../../adapters/kafka/topology/positions.ts";
import { identity, topicId } from "../topic-ids.ts";

const [START, END] = [10, 30];
const TOPIC = "orders.queue";

/** How much waits in a queue of which this stands committed, by partition. */
async function readyWith(...committed: readonly { readonly offset: number; readonly metadata: string }[]) {
  const partitions = committed.map((_, partition) => ({ partition, leader: 1, error: undefined, replicas: 1 }));
  const topic = { topic: TOPIC, id: topicId(TOPIC), identity: identity(TOPIC), error: undefined, partitions };
  const cluster = {
    topics: async () => [topic],
    committed: async () =>
      committed.map((commit, partition) => ({ topic: TOPIC, partition, error: undefined, ...commit })),
    listOffsets: async (wanted: readonly { readonly at: unknown }[]) =>
      wanted.map(({ at }) => (at === "earliest" ? START : END)),
  } as unknown as Cluster;
  return (await lag(cluster, { kind: "queue", name: "orders" })).ready;
}

test("what waits counts from the commit on, and from the beginning where the log does not reach it", async () => {
  const handled = { offset: 25, metadata: encodeProgress(beginning(25), identity(TOPIC)) };
  expect(await readyWith(handled)).toBe(5);
  expect(await readyWith({ offset: END, metadata: "" })).toBe(0);
  expect(await readyWith({ offset: -1, metadata: "" })).toBe(20);
  expect(await readyWith(handled, { offset: Number.MAX_SAFE_INTEGER, metadata: "" })).toBe(25);
});
