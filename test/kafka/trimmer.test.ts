import { expect, test } from "vitest";
import type { Cluster } from "../../adapters/kafka/cluster.ts";
import { KeptOffsets } from "../../adapters/kafka/consuming/kept-offsets.ts";
import { beginning, encodeProgress } from "../../adapters/kafka/consuming/progress.ts";
import type { PartitionOffset } from "../../adapters/kafka/port.ts";
import { Trimmer } from "../../adapters/kafka/topology/trimmer.ts";

test("what is handled is deleted up to what dead letters refer to, and no further", async () => {
  const kept = new KeptOffsets(undefined);
  kept.keep(40);
  const committed = [
    { topic: "orders", partition: 0, offset: 100, metadata: encodeProgress(beginning(100)) },
    {
      topic: "orders",
      partition: 1,
      offset: 100,
      metadata: encodeProgress({ ...beginning(100), kept: kept.lowest }),
    },
    { topic: "orders", partition: 2, offset: 100, metadata: encodeProgress({ ...beginning(100), kept: 0 }) },
    { topic: "orders", partition: 3, offset: 100, metadata: "of another library" },
  ];
  const deleted: PartitionOffset[] = [];
  const cluster = {
    committed: async () => committed.map((one) => ({ ...one, error: undefined })),
    deleteRecords: async (offsets: readonly PartitionOffset[]) => void deleted.push(...offsets),
  } as unknown as Cluster;
  const trimmer = new Trimmer(cluster, () => {}, { everyMs: 1, many: 1 });
  for (const at of committed) trimmer.progressed("orders", at);
  await expect.poll(() => deleted).toHaveLength(3);
  trimmer.close();
  expect(deleted.map(({ partition, offset }) => [partition, offset])).toEqual([
    [0, 100],
    [1, 40],
    [3, 100],
  ]);
});
