import { QUARANTINE_KEPT_MS, type SubscriptionDeclaration, type Topology } from "../../../core/adapter.ts";
import { type Address, describeAddress, type WorkAddress } from "../../../core/address.ts";
import { counted } from "../../../core/counted.ts";
import { MessagingError } from "../../../core/errors.ts";
import { oneLine } from "../../../core/foreign.ts";
import { DEAD_LETTERS_CONFIGURATION, TOMBSTONE_RETENTION_MS } from "../dead-letters/records.ts";
import { LEVELS } from "../delays/levels.ts";
import { collisionName, type DelayableAddress, delaysTopic, topicName } from "../names.ts";
import { mostBatchBytes, type Settings, topicBatchBytes } from "../options.ts";
import type { TopicMetadata, TopicSpecification } from "../port.ts";
import { hasCodec, storedCompression } from "../records/contract.ts";

/**
 * The purpose of a topic, which decides its retention: `events` for a time, `entries` (dead letters) until removed,
 * `work` until handled, `quarantine` (its log) for a day.
 */
type TopicRole = "events" | "work" | "entries" | "quarantine";

/** A topic that must exist. */
export interface PlannedTopic {
  readonly name: string;
  readonly role: TopicRole;
  /** Its description, such as `dead letters of queue "orders"`. */
  readonly what: string;
  /** The number of partitions of a new topic. */
  readonly partitions: number;
  /** The least number of partitions of an existing topic. */
  readonly leastPartitions: number;
  /** Whether an existing topic must not have more. */
  readonly exactly: boolean;
  /** Whether its records come from another topic and got headers on the way, so that they may be larger. */
  readonly derived: boolean;
}

/** A problem and the topics that it concerns. */
export interface Problem {
  readonly topics: readonly string[];
  readonly error: MessagingError;
}

/** The topics that must exist, and the problems of the topology. */
export interface Plan {
  readonly topics: readonly PlannedTopic[];
  readonly subscriptions: readonly SubscriptionDeclaration[];
  readonly problems: readonly Problem[];
}

type PlanSettings = Pick<Settings, "partitions" | "partitionsGiven">;

/** Plans the topics of a topology, next to other topics given by {@link collisionName}. Makes no requests. */
export function planOf(
  topology: Topology,
  settings: PlanSettings,
  others: ReadonlyMap<string, PlannedTopic> = new Map(),
): Plan {
  const topics = new Map<string, PlannedTopic>();
  const add = (topic: PlannedTopic): void => {
    if (!topics.has(topic.name)) topics.set(topic.name, topic);
  };
  const addEvents = (name: string): void => {
    const address = { kind: "topic", name } as const;
    add(partitioned(address, "events", settings));
    add(delays(address));
  };
  for (const { address } of topology.topics) addEvents(address.name);
  for (const { address } of topology.queues) family(address, settings).forEach(add);
  for (const { address } of topology.subscriptions) {
    addEvents(address.topic);
    family(address, settings).forEach(add);
  }
  const { kept, problems } = withoutCollisions([...topics.values()], others);
  return { topics: kept, subscriptions: topology.subscriptions, problems };
}

/** The topics of a queue or a subscription. */
function family(of: WorkAddress, settings: PlanSettings): PlannedTopic[] {
  return [
    partitioned(of, "work", settings),
    { ...single({ kind: "dead-letters", of }, "entries"), derived: true },
    single({ kind: "quarantine", of }, "quarantine"),
    delays(of),
  ];
}

function partitioned(address: Address, role: TopicRole, { partitions, partitionsGiven }: PlanSettings): PlannedTopic {
  const leastPartitions = partitionsGiven ? partitions : 1;
  const [name, what] = [topicName(address), describeAddress(address)];
  const derived = address.kind === "subscription";
  return { name, role, what, partitions, leastPartitions, exactly: false, derived };
}

/** Topics with one partition, read from end to end. */
function single(address: Address, role: TopicRole): PlannedTopic {
  const [name, what] = [topicName(address), describeAddress(address)];
  return { name, role, what, partitions: 1, leastPartitions: 1, exactly: true, derived: false };
}

function delays(of: DelayableAddress): PlannedTopic {
  const [name, what] = [delaysTopic(of), `delayed messages for ${describeAddress(of)}`];
  // As for the destination: a record must fit there when it is due.
  const derived = of.kind === "subscription";
  return { name, role: "work", what, partitions: LEVELS, leastPartitions: LEVELS, exactly: true, derived };
}

/**
 * Kafka would create one of two colliding topics and refuse the other. Collisions of derived topics are not reported:
 * their destinations collide too.
 */
function withoutCollisions(
  topics: readonly PlannedTopic[],
  others: ReadonlyMap<string, PlannedTopic>,
): { kept: PlannedTopic[]; problems: Problem[] } {
  const kept: PlannedTopic[] = [];
  const problems: Problem[] = [];
  for (const [collision, planned] of Map.groupBy(topics, ({ name }) => collisionName(name))) {
    const other = others.get(collision);
    const isNew = other === undefined || planned.some(({ name }) => name === other.name);
    const same = isNew ? planned : [other, ...planned];
    const [first, second] = same;
    if (first === undefined || second === undefined) {
      kept.push(...same);
      continue;
    }
    if (same.every(({ exactly }) => exactly)) continue;
    const error = new MessagingError(
      "conflict",
      `${first.what} and ${second.what} cannot both be on Kafka: it takes "." for "_" in the names of metrics, so the topics "${first.name}" and "${second.name}" collide. Rename one of them`,
    );
    problems.push({ topics: same.map(({ name }) => name), error });
  }
  return { kept, problems };
}

type SpecificationSettings = Pick<
  Settings,
  "replicationFactor" | "retentionMs" | "topicConfiguration" | "maxMessageBytes"
>;

const DEFAULT_REPLICAS = 3;
/** With this many replicas, one may be down and two still have a confirmed message. */
const REPLICAS_FOR_TWO = 3;
/** Kafka 4's minimum. Old records are deleted by whole segments, and the rest is read. */
const QUARANTINE_SEGMENT_BYTES = 1024 * 1024;
/** Of what is wrong with a topic, which quotes what the cluster says of it. */
const MAX_FAULT = 1_000;

/** The specification of a missing topic. */
export function specificationOf(
  { name, role, partitions, derived }: PlannedTopic,
  brokers: number,
  settings: SpecificationSettings,
): TopicSpecification {
  const replicationFactor = settings.replicationFactor ?? Math.max(1, Math.min(DEFAULT_REPLICAS, brokers));
  const mostBytes = role === "quarantine" ? QUARANTINE_SEGMENT_BYTES : topicBatchBytes(settings, derived);
  return {
    topic: name,
    partitions,
    replicationFactor,
    configuration: {
      // One clock for all senders, for retention and for start positions; a wrong clock is not refused.
      "message.timestamp.type": "LogAppendTime",
      ...settings.topicConfiguration,
      ...retentionOf(role, settings.retentionMs),
      "max.message.bytes": String(mostBytes),
      // Always set: with a server default of two, a topic with one replica would accept nothing.
      "min.insync.replicas": replicationFactor >= REPLICAS_FOR_TWO ? "2" : "1",
    },
  };
}

function retentionOf(role: TopicRole, retentionMs: number): Readonly<Record<string, string>> {
  switch (role) {
    case "events":
      return { "cleanup.policy": "delete", "retention.ms": String(retentionMs) };
    case "work":
      // Kafka does not know what is handled; handled records are deleted by offset.
      return { "cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1" };
    case "entries":
      return DEAD_LETTERS_CONFIGURATION;
    case "quarantine":
      return {
        "cleanup.policy": "delete",
        "retention.ms": String(QUARANTINE_KEPT_MS),
        "retention.bytes": "-1",
        "segment.bytes": String(QUARANTINE_SEGMENT_BYTES),
        // With a sender's wrong clock a record could expire at once.
        "message.timestamp.type": "LogAppendTime",
      };
  }
}

/** The configurations that the guarantees depend on. */
export const INSPECTED = [
  "cleanup.policy",
  "retention.ms",
  "retention.bytes",
  "delete.retention.ms",
  "max.message.bytes",
  "min.insync.replicas",
  "unclean.leader.election.enable",
  "compression.type",
] as const;

type InspectSettings = Pick<Settings, "maxMessageBytes" | "replicationFactor">;
type Inspected = (typeof INSPECTED)[number];

/** Finds everything about an existing topic that could lose or refuse messages. */
export function inspect(
  planned: PlannedTopic,
  { partitions }: Pick<TopicMetadata, "partitions">,
  configuration: ReadonlyMap<string, string>,
  settings: InspectSettings,
): readonly MessagingError[] {
  const replicas = Math.min(...partitions.map((partition) => partition.replicas));
  const faults = [
    ...partitionFaults(planned, partitions.length),
    ...retentionFaults(planned, (name) => configuration.get(name)),
    ...(planned.role === "quarantine" ? [] : sizeFaults(settings, (name) => configuration.get(name))),
    ...safetyFaults(replicas, settings, (name) => configuration.get(name)),
    ...compressionFaults((name) => configuration.get(name)),
  ];
  return faults.map(
    (fault) => new MessagingError("conflict", `topic "${planned.name}" (${planned.what}) ${oneLine(fault, MAX_FAULT)}`),
  );
}

function* partitionFaults({ leastPartitions, exactly }: PlannedTopic, count: number): Iterable<string> {
  if (count < leastPartitions) {
    yield `has ${counted(count, "partition")} and ${leastPartitions} are asked for: give fewer, or add some with kafka-topics --alter, which moves keys to other partitions`;
  } else if (exactly && count > leastPartitions) {
    yield `has ${counted(count, "partition")} where there must be ${leastPartitions}: delete it once it is empty, so that it is made anew`;
  }
}

function* retentionFaults({ role }: PlannedTopic, value: (name: Inspected) => string | undefined): Iterable<string> {
  const wanted = role === "entries" ? "compact" : "delete";
  const policy = value("cleanup.policy") ?? wanted;
  if (policy !== wanted) {
    yield `has cleanup.policy=${policy}, which would ${role === "quarantine" ? "refuse or lose records" : "delete unhandled messages"}: set it to ${wanted}`;
  }
  const removed = Number(value("delete.retention.ms") ?? TOMBSTONE_RETENTION_MS);
  if (role === "entries" && removed < TOMBSTONE_RETENTION_MS) {
    yield `has delete.retention.ms=${removed}, so that a reader may see a removed entry as present: set it to ${TOMBSTONE_RETENTION_MS} or more`;
  }
  if (role === "quarantine") yield* quarantineFaults(value);
  if (role !== "work") return;
  for (const name of ["retention.ms", "retention.bytes"] as const) {
    const limit = value(name) ?? "-1";
    if (limit !== "-1") yield `has ${name}=${limit}, which would delete unhandled messages: set it to -1`;
  }
}

/** The records of the last day show which messages make consumers crash. */
function* quarantineFaults(value: (name: Inspected) => string | undefined): Iterable<string> {
  const [ms, bytes] = [value("retention.ms") ?? "-1", value("retention.bytes") ?? "-1"];
  if (ms !== "-1" && Number(ms) < QUARANTINE_KEPT_MS) {
    yield `has retention.ms=${ms}, which would delete records that are still needed: set it to ${QUARANTINE_KEPT_MS}`;
  }
  if (bytes !== "-1") {
    yield `has retention.bytes=${bytes}, which would delete records that are still needed: set it to -1`;
  }
}

function* sizeFaults(settings: InspectSettings, value: (name: Inspected) => string | undefined): Iterable<string> {
  const needed = mostBatchBytes(settings);
  const most = Number(value("max.message.bytes") ?? needed);
  if (most < needed) {
    yield `has max.message.bytes=${most}, and a body of ${settings.maxMessageBytes} bytes needs ${needed} with its headers: raise it, or lower the option maxMessageBytes`;
  }
}

function* compressionFaults(value: (name: Inspected) => string | undefined): Iterable<string> {
  const stored = storedCompression(value("compression.type"));
  if (!hasCodec(stored)) {
    yield `has compression.type=${stored}, and there is no codec for that here, so that no record of it can be read: register one with kafkajs, or set it to producer`;
  }
}

function* safetyFaults(
  replicas: number,
  settings: InspectSettings,
  value: (name: Inspected) => string | undefined,
): Iterable<string> {
  const { replicationFactor = replicas } = settings;
  if (replicas < replicationFactor) {
    yield `has ${replicas} replicas and ${replicationFactor} are asked for: ask for fewer, or add some with kafka-reassign-partitions`;
  }
  const inSync = Number(value("min.insync.replicas") ?? replicas);
  if (inSync > replicas) {
    yield `has min.insync.replicas=${inSync} and ${replicas} replicas, so that nothing can be sent: lower the one or raise the other`;
  }
  if (replicas >= REPLICAS_FOR_TWO && inSync < 2) {
    yield "has min.insync.replicas=1, so that a confirmed message may be stored on one broker only: set it to 2";
  }
  if (value("unclean.leader.election.enable") === "true") {
    yield "has unclean.leader.election.enable=true, which loses confirmed messages when a leader fails: set it to false";
  }
}
