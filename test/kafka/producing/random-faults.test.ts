import { expect, test } from "vitest";
import type { SendResult } from "../../../core/adapter.ts";
import { Prng } from "../../simulation/prng.ts";
import type { FakeCluster, Fate } from "./fake-cluster.ts";
import { type Harness, openHarness } from "./harness.ts";

const TOPICS = ["t", "u"];
const PARTITIONS = 3;
const NODES = 3;
const SENDS = 60;
const RUNS = 60;
const LONG_MS = 3_600_000;

const ERRORS = [
  "NOT_ENOUGH_REPLICAS",
  "NOT_ENOUGH_REPLICAS_AFTER_APPEND",
  "REQUEST_TIMED_OUT",
  "NOT_LEADER_FOR_PARTITION",
  "UNKNOWN",
];

/** What goes wrong: requests and leaders; or also whole outages, and brokers that take a producer for another. */
type Trouble = "requests" | "everything";

/** Lets things go wrong for a while, and then no more. */
function disturb({ cluster, time }: Harness, random: Prng, untilMs: number, trouble: Trouble): void {
  const isQuiet = () => time.now > untilMs;
  cluster.latency = () => random.between(1, isQuiet() ? 2 : 40);
  cluster.fate = (): Fate => {
    if (isQuiet() || random.chance(0.5)) return "answered";
    const fate = random.pick<Fate | "error">(["lost", "late", "unanswered", "error"]);
    return fate === "error" ? { error: random.pick(ERRORS), isDone: random.chance(0.5) } : fate;
  };
  const happen = (): void => {
    const partition = random.pick(TOPICS.flatMap((topic) => cluster.topics.get(topic)?.partitions ?? []));
    if (isQuiet()) {
      cluster.isReachable = true;
      for (const topic of cluster.topics.values())
        for (const one of topic.partitions) one.leader = Math.max(one.leader, 0);
      return;
    }
    if (trouble === "requests" || random.chance(0.6)) partition.leader = random.between(-1, NODES - 1);
    else if (random.chance(0.5)) partition.pretend(BigInt(1_000 + cluster.identities - 1), 5_000);
    else cluster.isReachable = random.chance(0.7);
    time.schedule(happen, random.between(10, 400));
  };
  time.schedule(happen, 50);
}

/** Sends values over some time to places of theirs, again whatever is unknown, and returns when all are answered. */
async function sendAll({ producer, time }: Harness, random: Prng): Promise<Map<string, string[]>> {
  const sent = new Map<string, string[]>();
  let open = 0;
  let isOver = false;
  const hand = (topic: string, partition: number, values: readonly string[]): void => {
    const records = values.map((value) => ({ key: undefined, value: Buffer.from(value), headers: [], partition }));
    const again: string[] = [];
    let left = values.length;
    producer.send(topic, records, (index: number, result: SendResult) => {
      if (result.status === "rejected") throw result.error;
      if (result.status === "unknown") again.push(values[index] as string);
      left--;
      if (left > 0) return;
      if (again.length === 0) open--;
      else time.schedule(() => hand(topic, partition, again), 20);
    });
  };
  for (let index = 0; index < SENDS; index++) {
    const topic = random.pick(TOPICS);
    const partition = random.between(0, PARTITIONS - 1);
    const values = Array.from({ length: random.between(1, 4) }, (_, place) => `${index}.${place}`);
    const place = `${topic}/${partition}`;
    sent.set(place, [...(sent.get(place) ?? []), ...values]);
    open++;
    time.schedule(() => hand(topic, partition, values), index * 30);
  }
  time.schedule(() => {
    isOver = true;
  }, SENDS * 30);
  if (!(await time.until(() => isOver && open === 0, LONG_MS))) throw new Error(`${open} sends were never answered`);
  return sent;
}

function stored(cluster: FakeCluster, place: string): readonly string[] {
  const [topic = "", partition] = place.split("/");
  return cluster.topics.get(topic)?.partitions[Number(partition)]?.values ?? [];
}

async function run(seed: string, deliveryTimeoutMs: number, trouble: Trouble) {
  const harness = await openHarness({ deliveryTimeoutMs }, seed);
  const random = new Prng(seed);
  for (const topic of TOPICS) harness.cluster.createTopic(topic, PARTITIONS);
  disturb(harness, random.fork("faults"), 4_000, trouble);
  const sent = await sendAll(harness, random.fork("work"));
  harness.producer.close();
  return { ...harness, sent };
}

test("N sends are N distinct stored records, in order, whatever becomes of requests and leaders", async () => {
  let tries = 0;
  for (let seed = 0; seed < RUNS; seed++) {
    const { cluster, sent } = await run(`exact ${seed}`, LONG_MS, "requests");
    for (const [place, values] of sent) {
      // Nothing is in doubt for so long that it would be stored twice.
      expect([seed, place, stored(cluster, place)]).toEqual([seed, place, values]);
    }
    tries += cluster.produced.length;
  }
  // There were faults enough.
  expect(tries).toBeGreaterThan(RUNS * SENDS);
});

test("with too little time, outages, and brokers that do not go on with a producer, still none is lost", async () => {
  let twice = 0;
  for (let seed = 0; seed < RUNS; seed++) {
    const { cluster, sent } = await run(`lossy ${seed}`, 200, "everything");
    for (const [place, values] of sent) {
      const kept = stored(cluster, place);
      expect([seed, place, [...new Set(kept)].toSorted()]).toEqual([seed, place, values.toSorted()]);
      twice += kept.length - values.length;
    }
  }
  // Otherwise nothing was ever in doubt.
  expect(twice).toBeGreaterThan(0);
});
