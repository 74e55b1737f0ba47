import type { KafkaAdapter } from "../adapters/kafka/index.ts";
import { groupName, topicsOf } from "../adapters/kafka/names.ts";
import type { RabbitMQAdapter } from "../adapters/rabbitmq/index.ts";
import type { SqsAdapter } from "../adapters/sqs/index.ts";
import type { Adapter, Depth } from "../core/adapter.ts";
import { addressName, type DeadLettersAddress, type WorkAddress } from "../core/address.ts";
import type { Destination } from "../core/destination.ts";
import { isMessagingError } from "../core/errors.ts";
import { declarationsOf } from "./comparison.ts";
import type { Paint } from "./terminal.ts";
import { toldText } from "./wording.ts";

/** Details of a server. */
export interface ServerDetails {
  /** Null if the protocol does not report it. */
  readonly version: string | null;
  /** The number of servers, if the protocol reports it. */
  readonly servers: number | null;
}

/** Reads the server's details from an open adapter, with the broker's own client. */
export async function serverDetails(adapter: Adapter): Promise<ServerDetails> {
  if (adapter.name === "rabbitmq") {
    const { version } = (adapter as RabbitMQAdapter).connections.publishing?.connection.serverProperties ?? {};
    return { version: version ?? null, servers: null };
  }
  if (adapter.name !== "kafka") return { version: null, servers: null };
  return { version: null, servers: await (adapter as KafkaAdapter).serverCount() };
}

/** The endpoints of an open adapter, if they may come from elsewhere than its URL; otherwise empty. */
export function placeText(adapter: Adapter): string {
  if (adapter.name !== "sqs") return "";
  const { sqs, sns } = (adapter as Partial<SqsAdapter>).endpoints ?? {};
  return [
    ...(sqs === undefined ? [] : [` to ${sqs}`]),
    ...(sns === undefined || sns === sqs ? [] : [`${sqs === undefined ? " with" : " and"} SNS at ${sns}`]),
  ].join("");
}

/** The result of one check. */
export interface Check {
  readonly check: string;
  readonly status: "ok" | "failed" | "unknown";
  readonly message: string;
}

/** Checks what an operator's policies do to destinations; no checks for brokers without policies. */
export async function policyChecks(adapter: Adapter, destinations: readonly Destination[]): Promise<readonly Check[]> {
  if (adapter.name !== "rabbitmq") return [];
  const check = "policies";
  try {
    const found = await (adapter as Partial<RabbitMQAdapter>).policies?.(
      declarationsOf(destinations).topology("verify"),
    );
    if (found === undefined) {
      const message = "AMQP does not report them; set managementUrl, as in ?managementUrl=https://host:15671";
      return [{ check, status: "unknown", message }];
    }
    const checks = [
      ...found.problems.map((problem): Check => ({ check, status: "failed", message: toldText(problem) })),
      // What could not be compared is a notice too, with another code.
      ...found.notices.map(
        ({ code, message }): Check => ({ check, status: code === "conflict" ? "ok" : "unknown", message }),
      ),
    ];
    return checks.length > 0 ? checks : [{ check, status: "ok", message: "none that affects these destinations" }];
  } catch (error) {
    return [{ check, status: "unknown", message: toldText(error) }];
  }
}

const STUCK =
  "after a crash of the server they continue within twice its dead_letter_worker_publisher_confirm_timeout: 3 to 6 minutes, unless advanced.config sets less";

/** Checks whether RabbitMQ holds delayed messages between two wait queues, as it does for minutes after a crash. */
export async function delayChecks(adapter: Adapter): Promise<readonly Check[]> {
  if (adapter.name !== "rabbitmq") return [];
  const check = "delays";
  try {
    const count = await (adapter as Partial<RabbitMQAdapter>).delaysUnderWay?.();
    if (count === undefined) {
      const message = `AMQP does not report messages between two wait queues (${STUCK}); set managementUrl`;
      return [{ check, status: "unknown", message }];
    }
    if (count === 0) return [{ check, status: "ok", message: "no message is between two wait queues" }];
    return [{ check, status: "ok", message: `${count} messages are between two wait queues; ${STUCK}` }];
  } catch (error) {
    return [{ check, status: "unknown", message: toldText(error) }];
  }
}

/** Statistics of a queue or subscription besides its depth; null if the broker does not report them. */
export interface BrokerStatistics {
  /** Consumers in all processes. */
  readonly consumers: number | null;
  /** All messages that ever arrived, retries included. */
  readonly written: number | null;
  /** The age of the oldest message that is not handled. */
  readonly oldestAgeMs: number | null;
}

/** Reads statistics with the broker's own client. */
export interface StatisticsReader {
  at(of: WorkAddress): Promise<BrokerStatistics>;
  close(): Promise<void>;
}

export const NO_STATISTICS: BrokerStatistics = { consumers: null, written: null, oldestAgeMs: null };

const NO_READER: StatisticsReader = { at: async () => NO_STATISTICS, close: async () => {} };

/** Opens a reader with the client of an open adapter. It reads nothing if that is not possible. */
export async function statisticsBy(adapter: Adapter): Promise<StatisticsReader> {
  if (adapter.name === "rabbitmq") {
    return { ...NO_READER, at: (of) => rabbitMQStatistics(adapter as RabbitMQAdapter, of) };
  }
  if (adapter.name !== "kafka") return NO_READER;
  const admin: KafkaAdmin = (adapter as KafkaAdapter).kafkajs().admin();
  try {
    await admin.connect();
  } catch {
    return NO_READER;
  }
  return { at: (of) => kafkaStatistics(admin, of), close: () => admin.disconnect() };
}

async function rabbitMQStatistics({ connections }: RabbitMQAdapter, of: WorkAddress): Promise<BrokerStatistics> {
  const channel = await connections.consuming?.createChannel();
  if (channel === undefined) return NO_STATISTICS;
  // The server closes the channel if there is no such queue, and checkQueue rejects.
  channel.on("error", () => {});
  try {
    const { consumerCount } = await channel.checkQueue(addressName(of));
    return { ...NO_STATISTICS, consumers: consumerCount };
  } finally {
    await channel.close().catch(() => {});
  }
}

/** The number of dead letters. */
interface DeadCount {
  /** Includes held ones, as far as their number is known. */
  readonly deadLetters: number;
  /** How many others hold, such as a run; null if some are held and the number is unknown. */
  readonly deadLettersHeld: number | null;
}

/** Counts the dead letters of a queue or subscription. Rejects as `Adapter.depth` does. */
export async function deadCountOf(adapter: Adapter, of: WorkAddress): Promise<DeadCount> {
  const address = { kind: "dead-letters", of } as const;
  const { ready, unsettled, consumers = 0 } = await adapter.depth(address);
  const held = unsettled ?? (consumers === 0 ? 0 : await heldAt(adapter, address));
  return { deadLetters: ready + (held ?? 0), deadLettersHeld: held };
}

/** How many dead letters consumers hold, for brokers whose depth does not have it; null if unknown. */
export async function heldAt(adapter: Adapter, address: DeadLettersAddress): Promise<number | null> {
  if (adapter.name !== "rabbitmq") return null;
  try {
    // The management API is some seconds late: for a consumer that just began it reports 0.
    return (await (adapter as Partial<RabbitMQAdapter>).unacknowledged?.(address)) || null;
  } catch (error) {
    if (isMessagingError(error)) return null;
    throw error;
  }
}

/** Formats the number of dead letters, and how many are held, as a cell. */
export function deadText(paint: Paint, { deadLetters, deadLettersHeld }: DeadCount): string {
  const held = deadLettersHeld === null ? " (some held by a run)" : ` (${deadLettersHeld} held by a run)`;
  const count = deadLetters > 0 ? paint.red(String(deadLetters)) : "0";
  return deadLettersHeld === 0 ? count : `${count}${paint.yellow(held)}`;
}

/** All messages at an address, in flight included. */
export function totalCount({ ready, unsettled = 0 }: Depth): number {
  return ready + unsettled;
}

/** The connected admin client of kafkajs. */
type KafkaAdmin = ReturnType<ReturnType<KafkaAdapter["kafkajs"]>["admin"]>;

/** A group's position in a partition. */
interface Position {
  readonly topic: string;
  readonly partition: number;
  readonly from: number;
  readonly end: number;
}

const SHORTEST_AGE_MS = 1_000;
const LONGEST_AGE_MS = 30 * 24 * 60 * 60 * 1_000;
/** The relative precision of ages. */
const PRECISION = 0.05;

/** Reads statistics from Kafka: the group, the log ends, and timestamps. */
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
 * The age of the oldest waiting record. Kafka returns the first offset after a time, but no time of an offset. So this is a
 * binary search over ages.
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

/** Whether any of the first waiting records was written before a time. */
async function isOlder(admin: KafkaAdmin, waiting: readonly Position[], time: number): Promise<boolean> {
  for (const topic of new Set(waiting.map((one) => one.topic))) {
    const offsets = await admin.fetchTopicOffsetsByTimestamp(topic, Math.round(time));
    for (const { partition, offset } of offsets) {
      const position = waiting.find((one) => one.topic === topic && one.partition === partition);
      // Negative if nothing was written since.
      const first = Number(offset) < 0 ? Number.POSITIVE_INFINITY : Number(offset);
      if (position !== undefined && first > position.from) return true;
    }
  }
  return false;
}
