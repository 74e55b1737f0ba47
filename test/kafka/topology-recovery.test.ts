import { expect, test } from "vitest";
import { Cluster } from "../../adapters/kafka/cluster.ts";
import { resolveOptions } from "../../adapters/kafka/options.ts";
import type { KafkaConnection, TopicMetadata } from "../../adapters/kafka/port.ts";
import { type PlannedTopic, planOf, specificationOf } from "../../adapters/kafka/topology/plan.ts";
import { TopologyRecovery } from "../../adapters/kafka/topology-recovery.ts";
import type { QueueDeclaration, Topology } from "../../core/adapter.ts";
import type { MessagingError } from "../../core/errors.ts";
import { CLUSTER_ID, topicId } from "./topic-ids.ts";

const SETTINGS = resolveOptions({ brokers: "localhost" });
/** Of a queue: itself, its dead letters, its quarantine log and its delays. */
const TOPICS = 4;

const queue = (name: string): QueueDeclaration => ({
  address: { kind: "queue", name },
  ordered: false,
  priorities: 1,
});

const topology = (...names: readonly string[]): Topology => ({
  mode: "create",
  queues: names.map(queue),
  topics: [],
  subscriptions: [],
});

/** A cluster that makes what it is asked for, but for some topics, and what was asked of it. */
function cluster(refused: readonly string[] = []) {
  const standing = new Map<string, PlannedTopic>();
  const asked = { requests: 0, metadata: [] as string[], configurations: [] as string[], made: [] as string[] };
  const partitionsOf = (count: number): TopicMetadata["partitions"] =>
    Array.from({ length: count }, (_, partition) => ({ partition, error: undefined, leader: 1, replicas: 1 }));
  const plans = new Map<string, PlannedTopic>();
  const plan = (name: string): void => {
    for (const planned of planOf(topology(name), SETTINGS).topics) plans.set(planned.name, planned);
  };
  const connection: Partial<KafkaConnection> = {
    metadata: async (topics) => {
      asked.requests++;
      asked.metadata.push(...topics);
      return {
        clusterId: CLUSTER_ID,
        nodes: [1],
        topics: topics.map((topic): TopicMetadata => {
          const planned = standing.get(topic);
          if (planned !== undefined)
            return { topic, id: topicId(topic), error: undefined, partitions: partitionsOf(planned.partitions) };
          return { topic, id: "", error: "UNKNOWN_TOPIC_OR_PARTITION", partitions: [] };
        }),
      };
    },
    createTopics: async (topics) => {
      asked.requests++;
      return topics.map(({ topic }) => {
        if (refused.includes(topic)) return { topic, error: "POLICY_VIOLATION", message: "not that one" };
        asked.made.push(topic);
        standing.set(topic, plans.get(topic) as PlannedTopic);
        return { topic, error: undefined, message: undefined };
      });
    },
    topicConfigurations: async (topics) => {
      asked.requests++;
      asked.configurations.push(...topics);
      return topics.map((topic) => {
        const { configuration } = specificationOf(plans.get(topic) as PlannedTopic, 1, SETTINGS);
        return { topic, error: undefined, values: new Map(Object.entries(configuration)) };
      });
    },
  };
  const notices: MessagingError[] = [];
  const of = new Cluster(connection as KafkaConnection, 5_000, new AbortController().signal);
  const restoring = new TopologyRecovery(of, SETTINGS, (error) => notices.push(error));
  const declare = (...names: readonly string[]) => {
    for (const name of names) plan(name);
    return restoring.declare(topology(...names));
  };
  return { restoring, declare, asked, standing, notices };
}

const names = (count: number): string[] => Array.from({ length: count }, (_, index) => `q${index}`);

test("what is declared at once is asked about at once, and each is told of its own problems", async () => {
  const { declare, asked } = cluster(["q7.queue"]);
  const problems = await Promise.all(names(200).map((name) => declare(name)));
  for (const [index, own] of problems.entries()) {
    expect(own.map(({ message }) => message)).toEqual(index === 7 ? [expect.stringContaining('"q7.queue"')] : []);
  }
  // The topics once each; to make them, and to see them made, 50 at a time.
  expect(asked.made).toHaveLength(200 * TOPICS - 1);
  expect(asked.requests).toBeLessThan(50);
});

test("what many declare at once is declared once", async () => {
  const { declare, asked } = cluster();
  const first = declare("q0");
  const others = Array.from({ length: 500 }, () => declare("q0", "q1"));
  expect((await Promise.all([first, ...others])).flat()).toEqual([]);
  expect(asked.made).toHaveLength(2 * TOPICS);
  expect(asked.configurations.length).toBeLessThan(5 * TOPICS);
});

test("who declares while the cluster is being asked has a turn of their own", async () => {
  const { declare, asked } = cluster(["q1.queue"]);
  const first = declare("q0");
  await Promise.resolve();
  await Promise.resolve();
  const second = declare("q1");
  expect(await first).toEqual([]);
  expect(await second).toHaveLength(1);
  expect(asked.made).toHaveLength(2 * TOPICS - 1);
});

test("what is declared again is looked at again", async () => {
  const { declare, asked, standing } = cluster();
  expect(await declare("q0")).toEqual([]);
  standing.delete("q0.queue");
  expect(await declare("q0")).toEqual([]);
  expect(asked.made.filter((topic) => topic === "q0.queue")).toHaveLength(2);
});

test("a name that collides with one that was declared before is told", async () => {
  const { declare } = cluster();
  expect(await declare("one.two")).toEqual([]);
  const [problem] = await declare("one_two");
  expect(problem).toMatchObject({ code: "conflict", message: expect.stringContaining('queue "one.two"') as string });
});

test("what is gone is made again, in one go, whoever declared it", async () => {
  const { restoring, declare, asked, standing, notices } = cluster(["q3.queue"]);
  for (const name of [...names(20), ...names(20)]) await declare(name);
  for (const name of names(20)) standing.delete(`${name}.dlq`);
  const before = { made: asked.made.length, requests: asked.requests };
  await restoring.restoreAll();
  // That of the queue which could not be declared is nobody's.
  expect(asked.made.slice(before.made)).toHaveLength(19);
  expect(asked.requests - before.requests).toBeLessThan(10);
  expect(notices).toHaveLength(1);
  expect(await restoring.restore("q1.dlq")).toBe(true);
  expect(await restoring.restore("q3.dlq")).toBe(false);
});
