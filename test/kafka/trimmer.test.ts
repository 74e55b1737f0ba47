import { expect, test } from "vitest";
import type { Cluster } from "../../adapters/kafka/cluster.ts";
import { beginning, encodeProgress, KeptOffsets, type Progress } from "../../adapters/kafka/consuming/progress.ts";
import { operationError } from "../../adapters/kafka/errors.ts";
import { ownGroup, slowestPositions, slowGroupNotice } from "../../adapters/kafka/topology/trimmer.ts";
import { identity, topicId } from "./topic-ids.ts";

test("what is handled is deleted up to what dead letters refer to, and no further", async () => {
  const kept = new KeptOffsets(undefined);
  kept.keep(40);
  const of = (progress: Progress): string => encodeProgress(progress, identity("orders"));
  const metadata = [
    of(beginning(100)),
    of({ ...beginning(100), kept: kept.lowest }),
    of({ ...beginning(100), kept: 0 }),
    "of another library",
  ];
  const cluster = {
    committed: async () =>
      metadata.map((text, partition) => ({
        topic: "orders",
        partition,
        offset: 100,
        metadata: text,
        error: undefined,
      })),
  } as unknown as Cluster;
  const places = metadata.map((_, partition) => {
    return { topic: "orders", topicId: topicId("orders"), partition, group: "orders" };
  });
  // What another library committed says nothing of what was handled here.
  expect(await slowestPositions(places, [ownGroup(cluster)])).toEqual([100, 40, 0, 0]);
});

test("names of others' groups and a server's sentences are shown on one line, and not at any length", () => {
  const foul = `\u001b[2J\n\u202e${"x".repeat(30_000)}`;
  const place = { topic: "orders", topicId: topicId("orders"), partition: 0, group: "orders" };
  for (const { message } of [
    slowGroupNotice(place, foul),
    operationError("POLICY_VIOLATION", "create it", "ask", foul),
    operationError("TOPIC_AUTHORIZATION_FAILED", "create it", "ask", foul),
  ]) {
    expect(message).not.toMatch(/[\p{Cc}\p{Cf}]/u);
    expect(message.length).toBeLessThan(1_500);
  }
});
