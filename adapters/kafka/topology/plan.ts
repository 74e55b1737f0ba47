import type { SubscriptionDeclaration, Topology } from "../../../core/adapter.ts";
import { type Address, describeAddress, type WorkAddress } from "../../../core/address.ts";
import { MessagingError } from "../../../core/errors.ts";
import { LEVELS } from "../delays/index.ts";
import { collisionName, type DelayableAddress, delaysTopic, topicName } from "../names.ts";
import type { Settings } from "../options.ts";

/**
 * What a topic is for, which decides how it is kept: `events` for a time, `entries` (dead letters) each until it is
 * removed, `work` until it is handled, `quarantine` (its log) for a day.
 */
export type TopicRole = "events" | "work" | "entries" | "quarantine";

/** A topic that must stand on the cluster. */
export interface PlannedTopic {
  readonly name: string;
  readonly role: TopicRole;
  /** What it is to people, as in `dead letters of queue "orders"`. */
  readonly what: string;
  /** How many partitions it is made with. */
  readonly partitions: number;
  /** How many an existing one must have. */
  readonly leastPartitions: number;
  /** Whether it must have no more either. */
  readonly exactly: boolean;
  /** Whether what comes here came from elsewhere and got headers on the way, so that it may be larger than there. */
  readonly derived: boolean;
}

/** Something that is wrong, and the topics that it is about. */
export interface Problem {
  readonly topics: readonly string[];
  readonly error: MessagingError;
}

/** Everything that must stand on the cluster, in Kafka's terms, and what of the topology cannot be. */
export interface Plan {
  readonly topics: readonly PlannedTopic[];
  readonly subscriptions: readonly SubscriptionDeclaration[];
  readonly problems: readonly Problem[];
}

type PlanSettings = Pick<Settings, "partitions" | "partitionsGiven">;

/** Works out what must stand beside other topics, which are given by their {@link collisionName}; asks nobody. */
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
    add(spread(address, "events", settings));
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

/** What a queue or a subscription has of its own. */
function family(of: WorkAddress, settings: PlanSettings): PlannedTopic[] {
  return [
    spread(of, "work", settings),
    { ...single({ kind: "dead-letters", of }, "entries"), derived: true },
    single({ kind: "quarantine", of }, "quarantine"),
    delays(of),
  ];
}

function spread(address: Address, role: TopicRole, { partitions, partitionsGiven }: PlanSettings): PlannedTopic {
  const leastPartitions = partitionsGiven ? partitions : 1;
  const [name, what] = [topicName(address), describeAddress(address)];
  const derived = address.kind === "subscription";
  return { name, role, what, partitions, leastPartitions, exactly: false, derived };
}

/** These are read from end to end. */
function single(address: Address, role: TopicRole): PlannedTopic {
  const [name, what] = [topicName(address), describeAddress(address)];
  return { name, role, what, partitions: 1, leastPartitions: 1, exactly: true, derived: false };
}

function delays(of: DelayableAddress): PlannedTopic {
  const [name, what] = [delaysTopic(of), `delayed messages for ${describeAddress(of)}`];
  // As the destination: what fits here must fit there when it is due.
  const derived = of.kind === "subscription";
  return { name, role: "work", what, partitions: LEVELS, leastPartitions: LEVELS, exactly: true, derived };
}

/**
 * Kafka would make the first that comes and refuse the other. Where destinations collide, what is derived from them does
 * so too, and need not be told.
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
