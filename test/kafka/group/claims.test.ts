import { expect, test } from "vitest";
import { encodeSubscription } from "../../../adapters/kafka/group/protocol.ts";
import { TopicWatch } from "../../../adapters/kafka/group/topics.ts";
import type { TopicMetadata, TopicPartition } from "../../../adapters/kafka/port.ts";
import { VirtualTime } from "../../simulation/virtual-time.ts";
import { PausableClock } from "./pausable-clock.ts";

const UNKNOWN = "UNKNOWN_TOPIC_OR_PARTITION";

/** What the leader makes of what another member claims, while the cluster knows no topic. */
async function divided(topics: readonly string[], held: readonly TopicPartition[]) {
  const missing = (topic: string): TopicMetadata => ({ topic, id: "", error: UNKNOWN, partitions: [] });
  const watch = new TopicWatch(new PausableClock(new VirtualTime()), async (names) => names.map(missing), {
    changed: () => undefined,
    unchanged: () => undefined,
  });
  const said = (claimed: readonly TopicPartition[]): Buffer =>
    encodeSubscription({ topics, rejoins: 0, generation: 1, held: claimed, leaving: [] });
  const members = [
    { memberId: "leader", metadata: said([]) },
    { memberId: "other", metadata: said(held) },
  ];
  const joined = { error: undefined, generation: 2, leader: "leader", memberId: "leader", members };
  return watch.divide(joined);
}

test("what a member claims of topics that nobody knows is believed, as far as can be", async () => {
  const [own, other] = await divided(["t"], [{ topic: "t", partition: 3 }]);
  expect(own?.assignment.length).toBeGreaterThan(0);
  expect(other?.assignment.includes("t")).toBe(true);
});

test("the leader does not go through partitions that cannot be, whoever claims them", async () => {
  const topics = Array.from({ length: 2_000 }, (_, index) => `t${index}`);
  for (const partition of [2 ** 31 - 1, -(2 ** 31), 199_999]) {
    const [own, other] = await divided(
      topics,
      topics.map((topic) => ({ topic, partition })),
    );
    // Two thousand times that would be four hundred million.
    expect((own?.assignment.length ?? 0) + (other?.assignment.length ?? 0)).toBeLessThan(20_000_000);
  }
});
