import { describe, expect, test } from "vitest";
import { resolveOptions } from "../../adapters/kafka/options.ts";
import { inspect, type PlannedTopic, planOf, specificationOf } from "../../adapters/kafka/topology/plan.ts";
import type { QueueDeclaration, SubscriptionDeclaration, Topology } from "../../core/adapter.ts";

const SETTINGS = resolveOptions({ brokers: "localhost" });

function queue(name: string): QueueDeclaration {
  return { address: { kind: "queue", name }, ordered: false, priorities: 1 };
}

function subscription(topic: string, name: string): SubscriptionDeclaration {
  return { address: { kind: "subscription", topic, name }, ordered: false, from: "now" };
}

function topology(given: Partial<Topology>): Topology {
  return { mode: "create", queues: [], topics: [], subscriptions: [], ...given };
}

function planned(name: string, given: Partial<Topology>, settings = SETTINGS): PlannedTopic {
  const found = planOf(topology(given), settings).topics.find((topic) => topic.name === name);
  if (found === undefined) throw new Error(`no topic "${name}" is planned`);
  return found;
}

describe("a plan", () => {
  test("of a queue has its dead letters, quarantine log and delays", () => {
    const { topics, problems } = planOf(topology({ queues: [queue("orders")] }), SETTINGS);
    expect(problems).toEqual([]);
    expect(topics.map(({ name, role, partitions }) => [name, role, partitions])).toEqual([
      ["orders.queue", "work", 4],
      ["orders.dlq", "entries", 1],
      ["orders.queue.quarantine", "quarantine", 1],
      ["orders.queue.delays", "work", 8],
    ]);
  });

  test("of subscriptions has their topic once", () => {
    const subscriptions = [subscription("placed", "billing"), subscription("placed", "mail")];
    const topics = [{ address: { kind: "topic", name: "placed" }, ordered: false } as const];
    const names = planOf(topology({ topics, subscriptions }), SETTINGS).topics.map(({ name }) => name);
    const own = (name: string) => ["", ".dlq", ".quarantine", ".delays"].map((ending) => `placed..${name}${ending}`);
    expect(names).toEqual(["placed", "placed.delays", ...own("billing"), ...own("mail")]);
  });

  test("refuses names that Kafka takes for one, and leaves the others", () => {
    const { topics, problems } = planOf(topology({ queues: [queue("a.b"), queue("a_b"), queue("c")] }), SETTINGS);
    expect(problems).toHaveLength(1);
    expect(problems[0]?.error).toMatchObject({ code: "conflict", message: expect.stringContaining('queue "a_b"') });
    expect(topics.map(({ name }) => name)).toEqual(["c.queue", "c.dlq", "c.queue.quarantine", "c.queue.delays"]);
    const events = { address: { kind: "topic", name: "orders_dlq" }, ordered: false } as const;
    const derived = planOf(topology({ queues: [queue("orders")], topics: [events] }), SETTINGS);
    expect(derived.problems.map(({ error }) => error.message)).toEqual([
      expect.stringContaining('dead letters of queue "orders"'),
    ]);
  });
});

describe("a topic is made", () => {
  const configured = (name: string, brokers: number, settings = SETTINGS) =>
    specificationOf(
      planned(name, { queues: [queue("orders")], subscriptions: [subscription("placed", "mail")] }, settings),
      brokers,
      settings,
    );

  test("to keep work until it is handled, and events for a time", () => {
    expect(configured("orders.queue", 1).configuration).toMatchObject({
      "cleanup.policy": "delete",
      "retention.ms": "-1",
      "retention.bytes": "-1",
    });
    expect(configured("placed", 1).configuration).toMatchObject({
      "cleanup.policy": "delete",
      "retention.ms": "604800000",
    });
    expect(configured("orders.dlq", 1).configuration).toMatchObject({ "cleanup.policy": "compact" });
  });

  test.each([
    [1, 1, "1"],
    [2, 2, "1"],
    [3, 3, "2"],
    [9, 3, "2"],
  ])("on a cluster of %i with %i replicas, of which %s confirm", (brokers, replicationFactor, inSync) => {
    const made = configured("orders.queue", brokers);
    expect(made.replicationFactor).toBe(replicationFactor);
    expect(made.configuration["min.insync.replicas"]).toBe(inSync);
  });

  test("as the options say, but for what is anybroker's own", () => {
    const settings = resolveOptions({
      brokers: "localhost",
      partitions: 12,
      replicationFactor: 5,
      retentionMs: 1_000,
      maxMessageBytes: 4_000_000,
      topicConfiguration: { "segment.ms": "60000", "message.timestamp.type": "CreateTime" },
    });
    expect(configured("placed", 9, settings)).toEqual({
      topic: "placed",
      partitions: 12,
      replicationFactor: 5,
      configuration: {
        "message.timestamp.type": "CreateTime",
        "segment.ms": "60000",
        "cleanup.policy": "delete",
        "retention.ms": "1000",
        "max.message.bytes": String(4_000_000 + 128 * 1024),
        "min.insync.replicas": "2",
      },
    });
  });

  test("with room for a copy of the largest message that another may hold", () => {
    const bytes = (name: string) => Number(configured(name, 1).configuration["max.message.bytes"]);
    for (const name of ["orders.dlq", "placed..mail.dlq"]) {
      expect(bytes(name)).toBeGreaterThan(bytes("orders.queue"));
    }
    expect(bytes("placed..mail")).toBeGreaterThan(bytes("placed"));
  });

  test("to keep a quarantine log for a day in small segments, whatever the options say", () => {
    const settings = resolveOptions({
      brokers: "localhost",
      maxMessageBytes: 4_000_000,
      topicConfiguration: { "segment.bytes": "100000000", "message.timestamp.type": "CreateTime" },
    });
    for (const name of ["orders.queue.quarantine", "placed..mail.quarantine"]) {
      expect(configured(name, 3, settings)).toMatchObject({
        partitions: 1,
        replicationFactor: 3,
        configuration: {
          "cleanup.policy": "delete",
          "retention.ms": "86400000",
          "retention.bytes": "-1",
          "segment.bytes": "1048576",
          "max.message.bytes": "1048576",
          "message.timestamp.type": "LogAppendTime",
          "min.insync.replicas": "2",
        },
      });
    }
  });

  test("to take delayed what its destination takes, and no more", () => {
    const bytes = (name: string) => Number(configured(name, 1).configuration["max.message.bytes"]);
    for (const name of ["orders.queue", "placed", "placed..mail"]) expect(bytes(`${name}.delays`)).toBe(bytes(name));
  });
});

describe("a topic that stands", () => {
  const given = { queues: [queue("orders")], subscriptions: [subscription("placed", "mail")] };
  const faults = (
    name: string,
    configuration: Readonly<Record<string, string>>,
    { partitions = 4, replicas = 1, settings = SETTINGS } = {},
  ): string[] => {
    const places = Array.from({ length: partitions }, (_, partition) => ({
      partition,
      error: undefined,
      leader: 1,
      replicas,
    }));
    const found = inspect(
      planned(name, given, settings),
      { partitions: places },
      new Map(Object.entries(configuration)),
      settings,
    );
    return found.map(({ code, message }) => {
      expect(code).toBe("conflict");
      return message;
    });
  };

  test("is well where it is as it would be made", () => {
    for (const { name, partitions } of planOf(topology(given), SETTINGS).topics) {
      const made = specificationOf(planned(name, given), 3, SETTINGS);
      expect(faults(name, made.configuration, { partitions, replicas: 3 })).toEqual([]);
    }
  });

  test("has one partition, and not 1 partitions", () => {
    const [fault] = faults("orders.queue.delays", {}, { partitions: 1 });
    expect(fault).toMatch(/ has 1 partition and \d+ are asked for/);
  });

  test("is well with Kafka's own defaults, for events", () => {
    const defaults = { "cleanup.policy": "delete", "retention.ms": "604800000", "max.message.bytes": "1048588" };
    expect(faults("placed", defaults)).toEqual([]);
    for (const type of ["producer", "uncompressed", "gzip", "none of these"])
      expect(faults("placed", { ...defaults, "compression.type": type })).toEqual([]);
  });

  test.each<[string, string, Readonly<Record<string, string>>, object?]>([
    ["is compacted, and holds events", "placed", { "cleanup.policy": "compact" }],
    ["forgets work after a time", "orders.queue", { "retention.ms": "604800000" }],
    ["forgets work over a size", "orders.queue.delays", { "retention.bytes": "1000000" }, { partitions: 8 }],
    ["forgets dead letters", "orders.dlq", { "cleanup.policy": "compact,delete" }, { partitions: 1 }],
    ["forgets removals too soon", "orders.dlq", { "delete.retention.ms": "1000" }, { partitions: 1 }],
    ["forgets quarantine too soon", "orders.queue.quarantine", { "retention.ms": "60000" }, { partitions: 1 }],
    ["forgets quarantine over a size", "orders.queue.quarantine", { "retention.bytes": "9" }, { partitions: 1 }],
    ["is compacted, and a log", "orders.queue.quarantine", { "cleanup.policy": "compact" }, { partitions: 1 }],
    ["has several partitions of a log", "orders.queue.quarantine", {}, { partitions: 4 }],
    ["takes only small messages", "orders.queue", { "max.message.bytes": "1000000" }],
    ["can never be written to", "orders.queue", { "min.insync.replicas": "2" }],
    ["confirms what one broker alone has", "orders.queue", { "min.insync.replicas": "1" }, { replicas: 3 }],
    ["elects leaders that know less", "orders.queue", { "unclean.leader.election.enable": "true" }],
    [
      "is compressed by a codec that is not here",
      "orders.queue.delays",
      { "compression.type": "lz4" },
      { partitions: 8 },
    ],
    ["has too few partitions for its delays", "orders.queue.delays", {}, { partitions: 4 }],
    ["has several partitions of dead letters", "orders.dlq", {}, { partitions: 4 }],
    [
      "has fewer partitions than were asked for",
      "orders.queue",
      {},
      { settings: resolveOptions({ brokers: "localhost", partitions: 5 }) },
    ],
    [
      "has fewer replicas than were asked for",
      "orders.queue",
      {},
      { settings: resolveOptions({ brokers: "localhost", replicationFactor: 2 }) },
    ],
  ])("%s: refused", (_what, name, configuration, place) => {
    const found = faults(name, configuration, place);
    expect(found).toHaveLength(1);
    expect(found[0]).toContain(`topic "${name}"`);
    for (const [setting, value] of Object.entries(configuration)) expect(found[0]).toContain(`${setting}=${value}`);
  });

  test("may keep a quarantine log for longer, and takes records of any size that there are", () => {
    for (const kept of ["86400000", "604800000", "-1"]) {
      const configuration = { "retention.ms": kept, "max.message.bytes": "100000" };
      expect(faults("placed..mail.quarantine", configuration, { partitions: 1 })).toEqual([]);
    }
  });

  test("may have fewer partitions than would be made, and more", () => {
    expect(faults("orders.queue", {}, { partitions: 1 })).toEqual([]);
    expect(faults("orders.queue", {}, { partitions: 40 })).toEqual([]);
  });

  test("has all its faults named at once", () => {
    const configuration = { "cleanup.policy": "compact", "retention.ms": "1", "max.message.bytes": "1" };
    expect(faults("orders.queue", configuration)).toHaveLength(3);
  });
});
