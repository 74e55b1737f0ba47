import type { KafkaAdapter } from "../adapters/kafka/index.ts";
import { groupName, topicsOf } from "../adapters/kafka/names.ts";
import type { RabbitMQAdapter } from "../adapters/rabbitmq/index.ts";
import type { SqsAdapter } from "../adapters/sqs/index.ts";
import type { Adapter, Depth } from "../core/adapter.ts";
import { addressName, type DeadLettersAddress, type WorkAddress } from "../core/address.ts";
import type { Destination } from "../core/destination.ts";
import { isMessagingError } from "../core/errors.ts";
import { thrownText } from "../core/foreign.ts";
import { declarationsOf } from "./standing.ts";
import type { Paint } from "./terminal.ts";

/** What a server says of itself. */
export interface ServerDetails {
  /** Null where the protocol does not tell. */
  readonly version: string | null;
  /** How many servers there are, where that is told. */
  readonly servers: number | null;
}

/** What the server of an open adapter says of itself: by the client's own means, since the brokers have nothing in common here. */
export async function serverDetails(adapter: Adapter): Promise<ServerDetails> {
  if (adapter.name === "rabbitmq") {
    const { version } = (adapter as RabbitMQAdapter).connections.publishing?.connection.serverProperties ?? {};
    return { version: version ?? null, servers: null };
  }
  if (adapter.name !== "kafka") return { version: null, servers: null };
  return { version: null, servers: await (adapter as KafkaAdapter).serverCount() };
}

/** Where an open adapter is connected to, where something else than its URL may have said so; otherwise empty. */
export function placeText(adapter: Adapter): string {
  if (adapter.name !== "sqs") return "";
  const { sqs, sns } = (adapter as Partial<SqsAdapter>).endpoints ?? {};
  return [
    ...(sqs === undefined ? [] : [` to ${sqs}`]),
    ...(sns === undefined || sns === sqs ? [] : [`${sqs === undefined ? " with" : " and"} SNS at ${sns}`]),
  ].join("");
}

/** Something that was tried. */
export interface Check {
  readonly check: string;
  readonly status: "ok" | "failed" | "unknown";
  readonly message: string;
}

/** What an operator's policies on the server do to destinations; nothing where a broker has none. */
export async function policyChecks(adapter: Adapter, destinations: readonly Destination[]): Promise<readonly Check[]> {
  if (adapter.name !== "rabbitmq") return [];
  const check = "policies";
  try {
    const found = await (adapter as Partial<RabbitMQAdapter>).policies?.(
      declarationsOf(destinations).topology("verify"),
    );
    if (found === undefined) {
      const message = "AMQP does not tell them; give managementUrl, as in ?managementUrl=https://host:15671";
      return [{ check, status: "unknown", message }];
    }
    const told = [
      ...found.problems.map(({ message }): Check => ({ check, status: "failed", message })),
      // What could not be compared is a notice as well, of another code.
      ...found.notices.map(
        ({ code, message }): Check => ({ check, status: code === "conflict" ? "ok" : "unknown", message }),
      ),
    ];
    return told.length > 0 ? told : [{ check, status: "ok", message: "none that does anything to what is here" }];
  } catch (error) {
    return [{ check, status: "unknown", message: thrownText(error) }];
  }
}

const STUCK =
  "after a kill of the server they go on within twice its dead_letter_worker_publisher_confirm_timeout, 3 to 6 minutes unless advanced.config says less";

/** Whether RabbitMQ holds delayed messages between two wait queues, which it does for minutes after it was killed. */
export async function delayChecks(adapter: Adapter): Promise<readonly Check[]> {
  if (adapter.name !== "rabbitmq") return [];
  const check = "delays";
  try {
    const count = await (adapter as Partial<RabbitMQAdapter>).delaysUnderWay?.();
    if (count === undefined) {
      const message = `AMQP does not tell what is between two wait queues (${STUCK}); give managementUrl`;
      return [{ check, status: "unknown", message }];
    }
    if (count === 0) return [{ check, status: "ok", message: "no message is between two wait queues" }];
    return [{ check, status: "ok", message: `${count} messages are between two wait queues; ${STUCK}` }];
  } catch (error) {
    return [{ check, status: "unknown", message: thrownText(error) }];
  }
}

/** What is seen of a queue or subscription besides its depth; null where the broker does not tell. */
export interface BrokerStatistics {
  /** In all processes. */
  readonly consumers: number | null;
  /** How many messages ever came, retries included. */
  readonly written: number | null;
  /** How long the oldest message that is not handled has been there. */
  readonly oldestAgeMs: number | null;
}

/** Sees what only a broker's own client can ask for. */
export interface StatisticsReader {
  at(of: WorkAddress): Promise<BrokerStatistics>;
  close(): Promise<void>;
}

const NOTHING: BrokerStatistics = { consumers: null, written: null, oldestAgeMs: null };

const BLIND: StatisticsReader = { at: async () => NOTHING, close: async () => {} };

/** Looks by the client of an open adapter; where that cannot be done nothing is seen. */
export async function statisticsBy(adapter: Adapter): Promise<StatisticsReader> {
  if (adapter.name === "rabbitmq") {
    return { ...BLIND, at: (of) => rabbitMQStatistics(adapter as RabbitMQAdapter, of) };
  }
  if (adapter.name !== "kafka") return BLIND;
  const admin: KafkaAdmin = (adapter as KafkaAdapter).kafkajs().admin();
  try {
    await admin.connect();
  } catch {
    return BLIND;
  }
  return { at: (of) => kafkaStatistics(admin, of), close: () => admin.disconnect() };
}

async function rabbitMQStatistics({ connections }: RabbitMQAdapter, of: WorkAddress): Promise<BrokerStatistics> {
  const channel = await connections.consuming?.createChannel();
  if (channel === undefined) return NOTHING;
  // Closed by the server where there is no such queue: the question rejects.
  channel.on("error", () => {});
  try {
    const { consumerCount } = await channel.checkQueue(addressName(of));
    return { ...NOTHING, consumers: consumerCount };
  } finally {
    await channel.close().catch(() => {});
  }
}

/** How many dead letters there are. */
interface DeadCount {
  /** Those that somebody holds included, as far as it is known how many. */
  readonly deadLetters: number;
  /** How many somebody holds, such as a run; null where some are held and it is not known how many. */
  readonly deadLettersHeld: number | null;
}

/** Counts the dead letters of a queue or subscription. Rejects as `Adapter.depth`. */
export async function deadCountOf(adapter: Adapter, of: WorkAddress): Promise<DeadCount> {
  const address = { kind: "dead-letters", of } as const;
  const { ready, unsettled, consumers = 0 } = await adapter.depth(address);
  const held = unsettled ?? (consumers === 0 ? 0 : await heldAt(adapter, address));
  return { deadLetters: ready + (held ?? 0), deadLettersHeld: held };
}

/** How many consumers hold where there are some and the count does not tell it; null where nobody knows. */
export async function heldAt(adapter: Adapter, address: DeadLettersAddress): Promise<number | null> {
  if (adapter.name !== "rabbitmq") return null;
  try {
    // What the management API knows is some seconds old: of those who just began it says 0.
    return (await (adapter as Partial<RabbitMQAdapter>).unacknowledged?.(address)) || null;
  } catch (error) {
    if (isMessagingError(error)) return null;
    throw error;
  }
}

/** How many are dead, and how many of them somebody holds, as a cell. */
export function deadText(paint: Paint, { deadLetters, deadLettersHeld }: DeadCount): string {
  const held = deadLettersHeld === null ? " (some held by a run)" : ` (${deadLettersHeld} held by a run)`;
  const count = deadLetters > 0 ? paint.red(String(deadLetters)) : "0";
  return deadLettersHeld === 0 ? count : `${count}${paint.yellow(held)}`;
}

/** All that stands at an address, unsettled deliveries included. */
export function standingCount({ ready, unsettled = 0 }: Depth): number {
  return ready + unsettled;
}

/** kafkajs' own, connected. */
type KafkaAdmin = ReturnType<ReturnType<KafkaAdapter["kafkajs"]>["admin"]>;

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
async function kafkaStatistics(admin: KafkaAdmin, of: WorkAddress): Promise<BrokerStatistics> {
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
