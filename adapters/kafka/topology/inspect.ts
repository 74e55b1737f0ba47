import { QUARANTINE_KEPT_MS } from "../../../core/adapter.ts";
import { MessagingError } from "../../../core/errors.ts";
import { TOMBSTONE_RETENTION_MS } from "../dead-letters/index.ts";
import { mostBatchBytes, type Settings } from "../options.ts";
import type { TopicMetadata } from "../port.ts";
import type { PlannedTopic } from "./plan.ts";
import { REPLICAS_FOR_TWO } from "./specification.ts";

/** The configurations on which the guarantees rest. */
export const INSPECTED = [
  "cleanup.policy",
  "retention.ms",
  "retention.bytes",
  "delete.retention.ms",
  "max.message.bytes",
  "min.insync.replicas",
  "unclean.leader.election.enable",
] as const;

type InspectSettings = Pick<Settings, "maxMessageBytes" | "replicationFactor">;
type Inspected = (typeof INSPECTED)[number];

/** Everything about a topic that stands which would lose messages, or keep them from being sent. */
export function inspect(
  planned: PlannedTopic,
  { partitions }: Pick<TopicMetadata, "partitions">,
  configuration: ReadonlyMap<string, string>,
  settings: InspectSettings,
): readonly MessagingError[] {
  const replicas = Math.min(...partitions.map((partition) => partition.replicas));
  const faults = [
    ...partitionFaults(planned, partitions.length),
    ...keepingFaults(planned, (name) => configuration.get(name)),
    ...(planned.role === "quarantine" ? [] : sizeFaults(settings, (name) => configuration.get(name))),
    ...safetyFaults(replicas, settings, (name) => configuration.get(name)),
  ];
  return faults.map((fault) => new MessagingError("conflict", `topic "${planned.name}" (${planned.what}) ${fault}`));
}

function* partitionFaults({ leastPartitions, exactly }: PlannedTopic, count: number): Iterable<string> {
  if (count < leastPartitions) {
    yield `has ${count} partitions and ${leastPartitions} are asked for: give fewer, or add some with kafka-topics --alter, which moves keys to other partitions`;
  } else if (exactly && count > leastPartitions) {
    yield `has ${count} partitions where there must be ${leastPartitions}: delete it once it is empty, so that it is made anew`;
  }
}

function* keepingFaults({ role }: PlannedTopic, value: (name: Inspected) => string | undefined): Iterable<string> {
  const wanted = role === "entries" ? "compact" : "delete";
  const policy = value("cleanup.policy") ?? wanted;
  if (policy !== wanted) {
    yield `has cleanup.policy=${policy}, which would ${role === "quarantine" ? "refuse or lose records" : "delete messages that nobody handled"}: set it to ${wanted}`;
  }
  const removed = Number(value("delete.retention.ms") ?? TOMBSTONE_RETENTION_MS);
  if (role === "entries" && removed < TOMBSTONE_RETENTION_MS) {
    yield `has delete.retention.ms=${removed}, so that a reader may take a removed entry for one that stands: set it to ${TOMBSTONE_RETENTION_MS} or more`;
  }
  if (role === "quarantine") yield* quarantineFaults(value);
  if (role !== "work") return;
  for (const name of ["retention.ms", "retention.bytes"] as const) {
    const limit = value(name) ?? "-1";
    if (limit !== "-1") yield `has ${name}=${limit}, which would delete messages that nobody handled: set it to -1`;
  }
}

/** By the records of the last day it is told which messages make consumers crash. */
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
    yield "has min.insync.replicas=1, so that a confirmed message may stand on one broker alone: set it to 2";
  }
  if (value("unclean.leader.election.enable") === "true") {
    yield "has unclean.leader.election.enable=true, which loses confirmed messages when a leader fails: set it to false";
  }
}
