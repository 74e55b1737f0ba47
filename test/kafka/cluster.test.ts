import { describe, expect, test } from "vitest";
import { Cluster } from "../../adapters/kafka/cluster.ts";
import { operationError } from "../../adapters/kafka/errors.ts";
import type {
  ErrorName,
  FetchedPartition,
  FetchRequest,
  KafkaConnection,
  TopicMetadata,
} from "../../adapters/kafka/port.ts";
import { MessagingError } from "../../core/errors.ts";
import { CLUSTER_ID, topicId } from "./topic-ids.ts";

/** Answers for one request after another; the last stays. */
type Script<Answer> = readonly (Answer | Error)[];

function answering<Answer>(script: Script<Answer>): () => Promise<Answer> {
  const left = [...script];
  return () => {
    const answer = (left.length > 1 ? left.shift() : left[0]) as Answer | Error;
    return answer instanceof Error ? Promise.reject(answer) : Promise.resolve(answer);
  };
}

function topic(name: string, leaders: readonly number[], error?: ErrorName): TopicMetadata {
  return {
    topic: name,
    id: error === undefined ? topicId(name) : "",
    error,
    partitions: leaders.map((leader, partition) => ({ partition, error: undefined, leader, replicas: 1 })),
  };
}

function cluster(connection: Partial<KafkaConnection>, requestTimeoutMs = 2_000) {
  const ended = new AbortController();
  return { ended, cluster: new Cluster(connection as KafkaConnection, requestTimeoutMs, ended.signal) };
}

const metadata = (...script: Script<TopicMetadata>) => {
  const next = answering(script);
  return async () => ({ clusterId: CLUSTER_ID, nodes: [1], topics: [await next()] });
};
const unreachable = new MessagingError("unreachable", "nobody there");
const ORDERS = { topic: "orders", partition: 0 };
const GROUP = { protocol: "classic", protocolType: "consumer", assignor: "", clients: [] } as const;

describe("offsets are asked for", () => {
  test("at the leader, wherever it moves", async () => {
    const asked: number[] = [];
    const { cluster: subject } = cluster({
      metadata: metadata(topic("orders", [1]), topic("orders", [2])),
      listOffsets: async (node, wanted) => {
        asked.push(node);
        const error = node === 1 ? "NOT_LEADER_FOR_PARTITION" : undefined;
        return wanted.map((one) => ({ ...one, error, offset: 7 }));
      },
    });
    expect(await subject.listOffsets([{ ...ORDERS, at: "latest" }])).toEqual([7]);
    expect(asked).toEqual([1, 2]);
  });

  test("once of each leader, and again only where it failed", async () => {
    const asked: [number, number[]][] = [];
    const { cluster: subject } = cluster({
      metadata: metadata(topic("orders", [1, 2, 1])),
      listOffsets: async (node, wanted) => {
        asked.push([node, wanted.map(({ partition }) => partition)]);
        if (node === 2 && asked.length < 3) throw unreachable;
        return wanted.map((one) => ({ ...one, error: undefined, offset: one.partition }));
      },
    });
    const wanted = [2, 1, 0].map((partition) => ({ topic: "orders", partition, at: "earliest" as const }));
    expect(await subject.listOffsets(wanted)).toEqual([2, 1, 0]);
    expect(asked).toEqual([
      [1, [2, 0]],
      [2, [1]],
      [2, [1]],
    ]);
  });

  test("until the time is over", async () => {
    const { cluster: subject } = cluster({ metadata: metadata(topic("orders", [-1])) }, 10);
    await expect(subject.listOffsets([{ ...ORDERS, at: "latest" }])).rejects.toMatchObject({
      code: "unreachable",
      message: expect.stringContaining("leader"),
    });
  });

  test("not where there is nothing, or no right", async () => {
    const missing = cluster({ metadata: metadata(topic("orders", [], "UNKNOWN_TOPIC_OR_PARTITION")) });
    await expect(missing.cluster.topics(["orders"])).rejects.toMatchObject({ code: "not-found" });
    const forbidden = cluster({
      metadata: metadata(topic("orders", [1])),
      listOffsets: async (_node, wanted) =>
        wanted.map((one) => ({ ...one, error: "TOPIC_AUTHORIZATION_FAILED", offset: -1 })),
    });
    await expect(forbidden.cluster.listOffsets([{ ...ORDERS, at: "latest" }])).rejects.toMatchObject({
      code: "unauthorized",
    });
  });
});

describe("a group is asked about", () => {
  test("at its coordinator, once that is there and knows it", async () => {
    const { cluster: subject } = cluster({
      coordinator: answering<{ error: ErrorName; node: number }>([
        { error: "GROUP_COORDINATOR_NOT_AVAILABLE", node: -1 },
        unreachable,
        { error: undefined, node: 3 },
      ]),
      fetchOffsets: answering([
        { error: "GROUP_LOAD_IN_PROGRESS", offsets: [] },
        { error: undefined, offsets: [{ ...ORDERS, error: undefined, offset: 5, metadata: "m" }] },
      ]),
    });
    const other = { topic: "orders", partition: 1 };
    expect(await subject.committed("g", [other, ORDERS])).toMatchObject([
      { partition: 1, offset: -1, metadata: "" },
      { partition: 0, offset: 5, metadata: "m" },
    ]);
  });

  test("and one with members is not committed for", async () => {
    const { cluster: subject } = cluster({
      coordinator: answering([{ error: undefined, node: 3 }]),
      commitOffsets: answering([[{ ...ORDERS, error: undefined }], [{ ...ORDERS, error: "UNKNOWN_MEMBER_ID" }]]),
      describeGroup: answering([
        { ...GROUP, error: "GROUP_ID_NOT_FOUND", state: "Dead", members: 0 },
        { ...GROUP, error: undefined, state: "Stable", members: 2 },
      ]),
    });
    const commit = { ...ORDERS, offset: 1, metadata: "m" };
    expect(await subject.commitForEmptyGroup("g", [commit])).toBe(true);
    expect(await subject.commitForEmptyGroup("g", [commit])).toBe(false);
    expect(await subject.members("g")).toBe(0);
    expect(await subject.members("g")).toBe(2);
  });
});

describe("topics are made", () => {
  const specification = { topic: "orders", partitions: 1, replicationFactor: 1, configuration: {} };

  test("by whoever is the controller, and those that stand by now are well", async () => {
    const { cluster: subject } = cluster({
      createTopics: answering([
        [{ topic: "orders", error: "NOT_CONTROLLER", message: undefined }],
        [{ topic: "orders", error: "TOPIC_ALREADY_EXISTS", message: "there is one" }],
      ]),
    });
    expect(await subject.createTopics([specification])).toMatchObject([{ topic: "orders", error: undefined }]);
  });

  test.each([
    "Unable to replicate the partition 1 time(s): All brokers are currently fenced.",
    "Unable to replicate the partition 1 time(s): All brokers are currently fenced or in controlled shutdown.",
    "The target replication factor of 1 cannot be reached because only 0 broker(s) are registered.",
  ])("when a broker can hold them again: %s", async (message) => {
    const { cluster: subject } = cluster({
      createTopics: answering([
        [{ topic: "orders", error: "INVALID_REPLICATION_FACTOR", message }],
        [{ topic: "orders", error: undefined, message: undefined }],
      ]),
    });
    expect(await subject.createTopics([specification])).toMatchObject([{ topic: "orders", error: undefined }]);
    expect(operationError("INVALID_REPLICATION_FACTOR", "make it", "try again", message).code).toBe("unreachable");
  });

  test("and what is refused comes back with the server's words", async () => {
    const few = "The target replication factor of 3 cannot be reached because only 2 broker(s) are registered.";
    expect(operationError("INVALID_REPLICATION_FACTOR", "make it", "try again", few).code).toBe("conflict");
    const refused = { topic: "orders", error: "POLICY_VIOLATION", message: "too many" };
    const { cluster: subject } = cluster({ createTopics: answering([[refused]]) });
    expect(await subject.createTopics([specification])).toEqual([refused]);
  });

  test("and waited for until every broker knows them", async () => {
    const { cluster: subject } = cluster({
      metadata: metadata(
        topic("orders", [], "UNKNOWN_TOPIC_OR_PARTITION"),
        topic("orders", [-1], "LEADER_NOT_AVAILABLE"),
        topic("orders", [1]),
      ),
    });
    expect(await subject.newTopics(["orders"])).toEqual([topic("orders", [1])]);
  });
});

test("a cluster that has just started is asked until it knows its brokers and topics", async () => {
  const { cluster: subject } = cluster({
    metadata: answering([
      { clusterId: CLUSTER_ID, nodes: [], topics: [] },
      { clusterId: CLUSTER_ID, nodes: [1, 2, 3], topics: [topic("orders", [], "LEADER_NOT_AVAILABLE")] },
      { clusterId: CLUSTER_ID, nodes: [1, 2, 3], topics: [topic("orders", [], "UNKNOWN_TOPIC_OR_PARTITION")] },
    ]),
  });
  expect(await subject.metadata(["orders"])).toMatchObject({
    nodes: [1, 2, 3],
    topics: [{ error: "UNKNOWN_TOPIC_OR_PARTITION" }],
  });
});

test("records are deleted, and what is gone already is no error", async () => {
  const { cluster: subject } = cluster({
    metadata: metadata(topic("orders", [1])),
    deleteRecords: answering([[{ ...ORDERS, error: "OFFSET_OUT_OF_RANGE" }]]),
  });
  await expect(subject.deleteRecords([{ ...ORDERS, offset: 3 }])).resolves.toBeUndefined();
});

describe("what is asked of one topic among all of its name", () => {
  const fetching = (...errors: ErrorName[]) => {
    const next = answering<ErrorName>(errors as unknown as Script<ErrorName>);
    return async (_node: number, { partitions }: FetchRequest) => {
      const error = await next();
      return partitions.map((at) => ({ ...at, error }) as unknown as FetchedPartition);
    };
  };
  const before = { ...ORDERS, topicId: topicId("orders"), offset: 30 };

  test("is asked of a leader only once that has the log of this very topic", async () => {
    const asked: string[] = [];
    const { cluster: subject } = cluster({
      metadata: metadata(topic("orders", [1])),
      fetch: fetching("UNKNOWN_TOPIC_ID", "INCONSISTENT_TOPIC_ID", "OFFSET_OUT_OF_RANGE"),
      listOffsets: async (_, wanted) => {
        asked.push("offsets");
        return wanted.map((one) => ({ ...one, error: undefined, offset: 7 }));
      },
      deleteRecords: async (_, some) => {
        asked.push("deletion");
        return some.map((one) => ({ ...one, error: undefined }));
      },
    });
    expect(await subject.listOffsets([{ ...ORDERS, topicId: topicId("orders"), at: "latest" }])).toEqual([7]);
    await subject.deleteRecords([before]);
    expect(asked).toEqual(["offsets", "deletion"]);
  });

  test("is refused where the name is another's by now", async () => {
    const { cluster: subject } = cluster({
      metadata: metadata({ ...topic("orders", [1]), id: topicId("orders", 2) }),
      fetch: () => Promise.reject(new Error("it is asked")),
      deleteRecords: () => Promise.reject(new Error("it is deleted")),
    });
    await expect(subject.deleteRecords([before])).rejects.toMatchObject({ code: "conflict" });
    const offsets = subject.listOffsets([{ ...ORDERS, topicId: topicId("orders"), at: "earliest" }]);
    await expect(offsets).rejects.toMatchObject({ code: "conflict" });
  });

  test("is not asked at all of a topic without an id", async () => {
    const { cluster: subject } = cluster({ metadata: metadata({ ...topic("orders", [1]), id: "" }) });
    await expect(subject.topics(["orders"])).rejects.toMatchObject({
      code: "unsupported",
      message: expect.stringContaining("inter.broker.protocol.version"),
    });
  });
});

test("after its end nothing is asked any more", async () => {
  const { cluster: subject, ended } = cluster({ metadata: () => Promise.reject(unreachable) }, 60_000);
  const asking = subject.metadata([]);
  ended.abort();
  await expect(asking).rejects.toMatchObject({ code: "closed" });
  await expect(subject.metadata([])).rejects.toMatchObject({ code: "closed" });
});
