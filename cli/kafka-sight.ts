import type { KafkaAdapter } from "../adapters/kafka/index.ts";
import { groupName, topicsOf } from "../adapters/kafka/names.ts";
import type { WorkAddress } from "../core/address.ts";
import type { Sight } from "./broker-details.ts";

/** kafkajs' own, connected. */
export type KafkaAdmin = ReturnType<ReturnType<KafkaAdapter["kafkajs"]>["admin"]>;

/** Where a group stands in a partition. */
interface Position {
  readonly topic: string;
  readonly partition: number;
  readonly from: number;
  readonly end: number;
}

const SHORTEST_AGE_MS = 1_000;
const LONGEST_AGE_MS = 30 * 24 * 60 * 60 * 1_000;
/** Each age is told within so much of itself. */
const PRECISION = 0.05;

/** What Kafka tells of a queue or subscription: by its group, the ends of its logs, and the times in them. */
export async function kafkaSight(admin: KafkaAdmin, of: WorkAddress): Promise<Sight> {
  const topics = topicsOf(of);
  const group = groupName(of);
  const [{ groups }, committed, ends] = await Promise.all([
    admin.describeGroups([group]),
    admin.fetchOffsets({ groupId: group, topics: [...topics] }),
    Promise.all(topics.map((topic) => admin.fetchTopicOffsets(topic))),
  ]);
  const positions = ends.flatMap((partitions, index): Position[] =>
    partitions.map(({ partition, high, low }) => {
      const topic = topics[index] ?? "";
      const known = committed.find((one) => one.topic === topic)?.partitions.find((one) => one.partition === partition);
      return { topic, partition, from: Math.max(Number(known?.offset ?? -1), Number(low)), end: Number(high) };
    }),
  );
  return {
    consumers: groups[0]?.members.length ?? 0,
    written: positions.reduce((sum, { end }) => sum + end, 0),
    oldestAgeMs: await oldestAge(
      admin,
      positions.filter(({ from, end }) => from < end),
    ),
  };
}

/**
 * How long the oldest record that waits has been in its log. Kafka tells the first offset at or behind a time, and no time
 * of an offset: so the age is searched for, by halves of its magnitude.
 */
async function oldestAge(admin: KafkaAdmin, waiting: readonly Position[]): Promise<number | null> {
  if (waiting.length === 0) return 0;
  const now = Date.now();
  if (!(await isOlder(admin, waiting, now - SHORTEST_AGE_MS))) return SHORTEST_AGE_MS;
  let [younger, older] = [SHORTEST_AGE_MS, LONGEST_AGE_MS];
  while (older / younger > 1 + PRECISION) {
    const age = Math.sqrt(younger * older);
    if (await isOlder(admin, waiting, now - age)) younger = age;
    else older = age;
  }
  return Math.round(older);
}

/** Whether any of those that wait first was written before a time. */
async function isOlder(admin: KafkaAdmin, waiting: readonly Position[], time: number): Promise<boolean> {
  for (const topic of new Set(waiting.map((one) => one.topic))) {
    const offsets = await admin.fetchTopicOffsetsByTimestamp(topic, Math.round(time));
    for (const { partition, offset } of offsets) {
      const position = waiting.find((one) => one.topic === topic && one.partition === partition);
      // Below 0 where nothing was written since.
      const first = Number(offset) < 0 ? Number.POSITIVE_INFINITY : Number(offset);
      if (position !== undefined && first > position.from) return true;
    }
  }
  return false;
}
