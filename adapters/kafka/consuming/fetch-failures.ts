import type { Clock, Random } from "../../../core/clock.ts";
import { isMessagingError, MessagingError } from "../../../core/errors.ts";
import { type BackoffTimes, backoffMs } from "../../../core/retry-policy.ts";
import { partitionKey, type TopicIdentity } from "../names.ts";
import type {
  ErrorName,
  FetchedPartition,
  KafkaClient,
  KafkaConnection,
  ListedOffset,
  TopicPartition,
} from "../port.ts";
import { compressionsIn } from "../records/batch.ts";
import type { DecodedRecords } from "../records/contract.ts";
import { type AssignedPartition, type ConsumerOptions, describePartition } from "./assigned-partition.ts";

/** After how long without an answer or progress a partition is reported. */
const SILENT_MS = 30_000;

/**
 * Why a partition has given nothing for too long; undefined if it has. `readable`: whether it should give something.
 * Reconnecting does not help against open transactions, used-up quotas or a codec that does not end.
 */
export function findSilence(
  cursor: PartitionCursor,
  now: number,
  readable: boolean,
): { readonly cause: MessagingError; readonly kind: string; readonly reconnect: boolean } | undefined {
  if (!readable) {
    cursor.heardAt = now;
    cursor.movedAt = now;
    return undefined;
  }
  const silentMs = now - cursor.heardAt;
  const stuckMs = now - cursor.movedAt;
  if (silentMs < SILENT_MS && (stuckMs < SILENT_MS || cursor.behind <= 0)) return undefined;
  // Reported again after the same time.
  cursor.heardAt = now;
  cursor.movedAt = now;
  const longest = Math.max(silentMs, stuckMs);
  if (cursor.decoding !== undefined) {
    return { cause: codecError(cursor.partition, longest, cursor.decoding), kind: "codec", reconnect: false };
  }
  if (cursor.throttled) {
    return { cause: quotaError(cursor.partition, longest), kind: "quota", reconnect: false };
  }
  if (silentMs < SILENT_MS && cursor.readable <= 0) {
    const cause = transactionError(cursor.partition, stuckMs, cursor.behind);
    return { cause, kind: "transaction", reconnect: false };
  }
  return { cause: silentError(cursor.partition, longest, cursor.behind), kind: "silent", reconnect: true };
}

/** The ends of a partition's log. `latest` is only asked for if the position may lie beyond it. */
interface LogBounds {
  readonly error: ErrorName;
  readonly earliest: number;
  readonly latest: number;
}

/** Finds the ends of the logs. Rejects if the node does not answer. */
export async function findLogBounds(
  connection: KafkaConnection,
  node: number,
  cursors: readonly PartitionCursor[],
): Promise<ReadonlyMap<PartitionCursor, LogBounds>> {
  const earliest = await list(connection, node, cursors, "earliest");
  const ends = cursors.filter((cursor) => {
    const start = earliest.get(cursor);
    if (cursor.resetting === "uncommitted" || start === undefined) return false;
    return start.error === undefined && cursor.partition.ledger.position > start.offset;
  });
  const latest = ends.length === 0 ? new Map() : await list(connection, node, ends, "latest");
  return new Map(
    cursors.map((cursor) => {
      const start: ListedOffset | undefined = earliest.get(cursor);
      const end: ListedOffset | undefined = latest.get(cursor);
      const error = start === undefined ? "UNKNOWN_TOPIC_OR_PARTITION" : (start.error ?? end?.error);
      const found = { error, earliest: start?.offset ?? 0, latest: end?.offset ?? Number.POSITIVE_INFINITY };
      return [cursor, found];
    }),
  );
}

async function list(
  connection: KafkaConnection,
  node: number,
  cursors: readonly PartitionCursor[],
  at: "earliest" | "latest",
): Promise<ReadonlyMap<PartitionCursor, ListedOffset>> {
  const wanted = cursors.map(({ partition: { topic, partition } }) => ({ topic, partition, at }));
  const listed = await connection.listOffsets(node, wanted);
  const byKey = new Map(listed.map((offset) => [partitionKey(offset as TopicPartition), offset]));
  return new Map(
    cursors.flatMap((cursor): [PartitionCursor, ListedOffset][] => {
      const offset = byKey.get(partitionKey(cursor.partition));
      return offset === undefined ? [] : [[cursor, offset]];
    }),
  );
}

/** The first failures are not reported: leaders move and brokers restart. */
const REPORT_FROM_FAILURES = 3;
const REPORT_EVERY_MS = 30_000;
/** Nor are those of a new partition: its leader may take a while. */
const NEW_FOR_MS = 10_000;
/** After so many such answers in a row the log really is shorter. Starting over repeats everything. */
const CERTAIN_AFTER = 5;

/** Handles partitions that cannot be read: waits, asks for the leader again, and reports lasting failures. */
export class FetchFailures {
  readonly #dependencies: Pick<FetcherDependencies, "clock" | "random" | "retry">;
  readonly #events: Pick<FetcherEvents, "stalled" | "notice" | "vanished">;
  /** The topics reported as missing. */
  readonly #gone = new Set<string>();

  constructor(
    dependencies: Pick<FetcherDependencies, "clock" | "random" | "retry">,
    events: Pick<FetcherEvents, "stalled" | "notice" | "vanished">,
  ) {
    this.#dependencies = dependencies;
    this.#events = events;
  }

  /** The broker answered with an error. */
  refused(cursor: PartitionCursor, error: string): void {
    const { partition } = cursor;
    cursor.heardAt = this.#dependencies.clock.monotonic();
    if (error === "OFFSET_OUT_OF_RANGE" && cursor.resetting === undefined) {
      cursor.resetting = partition.lastCommit === undefined ? "uncommitted" : "out-of-range";
      return;
    }
    const unauthorized = error === "TOPIC_AUTHORIZATION_FAILED";
    const cause = refusedError(error, partition, partition.ledger.position);
    this.failed(cursor, cause, unauthorized, `${error} ${partition.topic}`);
    if (
      error !== "UNKNOWN_TOPIC_OR_PARTITION" ||
      cursor.failures < REPORT_FROM_FAILURES ||
      this.#gone.has(partition.topic)
    )
      return;
    this.#gone.add(partition.topic);
    this.#events.notice(goneNotice(partition));
  }

  /** The partition was read, or its position was found. */
  over(cursor: PartitionCursor): void {
    cursor.succeeded(this.#dependencies.clock.monotonic());
    this.#gone.delete(cursor.partition.topic);
  }

  /** The cluster does not know the partition. */
  unknown(cursor: PartitionCursor): void {
    this.#events.vanished(cursor.partition);
    this.refused(cursor, "UNKNOWN_TOPIC_OR_PARTITION");
  }

  /** The log ends before the position. True once that is certain: a broker that lags may say so too. */
  beyond(cursor: PartitionCursor): boolean {
    if (++cursor.beyond >= CERTAIN_AFTER) return true;
    const { partition } = cursor;
    const cause = refusedError("OFFSET_OUT_OF_RANGE", partition, partition.ledger.position);
    this.failed(cursor, cause, false, `beyond ${partition.topic}`);
    return false;
  }

  /** The broker did not answer. */
  unanswered(cursors: readonly PartitionCursor[], error: unknown): void {
    const cause = asError(error);
    for (const cursor of cursors) {
      const isReported = cause.code === "unauthorized";
      this.failed(cursor, unreachableError(cause, cursor.partition), isReported, `unanswered ${cause.code}`);
    }
  }

  /** `kind` groups failures that several partitions share, so that they are reported once. */
  failed(cursor: PartitionCursor, cause: MessagingError, atOnce: boolean, kind?: string): void {
    const { clock, random, retry } = this.#dependencies;
    const now = clock.monotonic();
    cursor.failures++;
    cursor.throttled = false;
    cursor.leader = undefined;
    // Only the next leader can say that its log of this very topic does not have the position.
    cursor.resetting = undefined;
    cursor.notBefore = now + backoffMs(cursor.failures, retry, random);
    const isNew = !cursor.partition.ledger.begun && now - cursor.since < NEW_FOR_MS;
    if (!atOnce && (isNew || cursor.failures < REPORT_FROM_FAILURES)) return;
    if (now - cursor.reportedAt < REPORT_EVERY_MS) return;
    cursor.reportedAt = now;
    this.#events.stalled(cause, kind);
  }
}

function asError(error: unknown): MessagingError {
  if (isMessagingError(error)) return error;
  return new MessagingError("unreachable", "the client failed; see the cause", { cause: error });
}

/** Why a partition cannot be read, for a protocol error. */
export function refusedError(error: string, at: TopicPartition, position: number): MessagingError {
  const what = `${describePartition(at)} cannot be read`;
  switch (error) {
    case "TOPIC_AUTHORIZATION_FAILED":
      return new MessagingError("unauthorized", `${what}: grant the user READ and DESCRIBE on the topic (${error})`);
    case "UNKNOWN_TOPIC_OR_PARTITION":
      return new MessagingError(
        "not-found",
        `${what}: the cluster does not know it; if the topic was deleted, make it again; it is tried again (${error})`,
      );
    case "CORRUPT_MESSAGE":
      return new MessagingError(
        "invalid",
        `${what} from offset ${position} on: the broker found it damaged; see its logs; it is tried again (${error})`,
      );
    default:
      return new MessagingError("unreachable", `${what} for now: the broker answers ${error}; it is tried again`);
  }
}

function unreachableError(cause: MessagingError, at: TopicPartition): MessagingError {
  return new MessagingError(cause.code, `${describePartition(at)} cannot be read for now: ${cause.message}`, { cause });
}

/** The records at an offset cannot be read. */
export function unreadableError(cause: MessagingError, at: TopicPartition, offset: number): MessagingError {
  return new MessagingError(
    cause.code,
    `${describePartition(at)} stops at offset ${offset}, which cannot be read: ${cause.message}; nothing behind it is delivered until it can be, or is deleted, or the group's offset is moved behind it`,
    { cause },
  );
}

/** A topic is missing that was read before. */
function goneNotice(at: TopicPartition): MessagingError {
  return new MessagingError(
    "not-found",
    `${describePartition(at)} is gone: the cluster does not know it any more; consuming continues when it is back`,
  );
}

/** Records were deleted before they were read. */
export function missingNotice(at: TopicPartition, from: number, to: number): MessagingError {
  return new MessagingError(
    "conflict",
    `${describePartition(at)} was to be read from offset ${from} and begins at ${to}: ${to - from} offsets were deleted before they were read; consuming continues at ${to}. Raise the topic's retention, or consume faster`,
  );
}

/** There was no commit for a partition whose first records are deleted. */
export function uncommittedNotice(at: TopicPartition, group: string, earliest: number): MessagingError {
  return new MessagingError(
    "conflict",
    `group "${group}" has no offset for ${describePartition(at)}, which begins at ${earliest}; it is consumed from there, the earliest that is kept`,
  );
}

/** The log ends before the position. */
export function beyondNotice(at: TopicPartition, position: number, end: number, earliest: number): MessagingError {
  return new MessagingError(
    "conflict",
    `${describePartition(at)} was to be read from offset ${position} and ends at ${end}: its log was cut, or another client committed that offset for the group; it is consumed again from ${earliest}, the earliest offset kept`,
  );
}

/** A topic was recreated. */
export function recreatedNotice({ topic }: TopicPartition, group: string): MessagingError {
  return new MessagingError(
    "conflict",
    `topic "${topic}" is another one than group "${group}" was reading: it was deleted and made again. It is consumed from its beginning; what the group had not handled of the one before is gone with it. Find out who deleted it`,
  );
}

/** The commit was made in another cluster, or for a topic of another name. */
export function translatedNotice({ topic }: TopicPartition, group: string): MessagingError {
  return new MessagingError(
    "conflict",
    `the offsets of group "${group}" in topic "${topic}" were brought here from another topic, as mirrors between clusters do; it is consumed from them, and what was finished behind them is handled again`,
  );
}

/** Nothing arrived although there are records. */
function silentError(at: TopicPartition, forMs: number, behind: number): MessagingError {
  const much = behind > 0 ? `, though there are ${behind} offsets to read` : "";
  return new MessagingError(
    "unreachable",
    `nothing was heard of ${describePartition(at)} for ${Math.round(forMs / 1000)} s${much}; connecting again`,
  );
}

/** An open transaction holds back records. */
function transactionError(at: TopicPartition, forMs: number, behind: number): MessagingError {
  return new MessagingError(
    "timeout",
    `${describePartition(at)} holds ${behind} offsets that cannot be read for ${Math.round(forMs / 1000)} s, because a transaction of another producer is open; end or abort it`,
  );
}

/** The broker answers without records because of a quota. */
function quotaError(at: TopicPartition, forMs: number): MessagingError {
  return new MessagingError(
    "timeout",
    `nothing was read of ${describePartition(at)} for ${Math.round(forMs / 1000)} s, because this process has used up its quota, and Kafka slows it down; raise consumer_byte_rate (or request_percentage) for its user or client id, or have it read less`,
  );
}

/** A codec does not end. */
function codecError(at: TopicPartition, forMs: number, piece: Buffer): MessagingError {
  const names = compressionsIn(piece);
  const codec = names.length === 0 ? "its codec" : `its codec for ${names.join(" or ")}`;
  return new MessagingError(
    "timeout",
    `nothing was read of ${describePartition(at)} for ${Math.round(forMs / 1000)} s, because ${codec} has not ended: see that what is registered with kafkajs settles; the partition is read on when it does`,
  );
}

/** Commits fail. */
export function commitError(at: TopicPartition, group: string, failures: number): MessagingError {
  return new MessagingError(
    "unreachable",
    `${failures} commits of group "${group}" for ${describePartition(at)} failed in a row; what is settled stays unconfirmed until one comes through`,
  );
}

/** The committed metadata has our format and cannot be read. */
export function metadataNotice(at: TopicPartition, group: string, offset: number): MessagingError {
  return new MessagingError(
    "invalid",
    `what group "${group}" committed beside offset ${offset} of ${describePartition(at)} cannot be read, perhaps because a newer version wrote it; what was finished behind that offset is handled again`,
  );
}

/** Decodes a fetched part of a log. Never throws or rejects: the result says what is unreadable. */
export type RecordDecoder = (
  bytes: Buffer,
  options: TopicPartition & {
    readonly from: number;
    readonly abortedTransactions: FetchedPartition["abortedTransactions"];
  },
) => DecodedRecords | Promise<DecodedRecords>;

export interface FetcherDependencies {
  readonly client: KafkaClient;
  readonly decode: RecordDecoder;
  readonly clock: Clock;
  readonly random: Random;
  readonly retry: BackoffTimes;
  /** About how many bytes all buffers may take. */
  readonly maxBufferBytes: number;
  readonly wanted: ConsumerOptions["wanted"] | undefined;
  readonly deliversUnreadable: boolean;
  /** Milliseconds without a heartbeat after which the group drops a member. */
  readonly sessionTimeoutMs: number;
}

/** What a fetcher reports to its consumer. */
export interface FetcherEvents {
  /** More records may be delivered. */
  fetched(): void;
  /** `kind` groups causes that several partitions share. */
  stalled(cause: MessagingError, kind?: string): void;
  notice(error: MessagingError): void;
  /** There is no commit, and the first records of the log are deleted. */
  uncommitted(partition: AssignedPartition, earliest: number): void;
  /** The cluster does not know the partition; called for each such answer. */
  vanished(partition: AssignedPartition): void;
  /** The topic that has the name now. Partitions of another topic are not read on. */
  identified(partition: AssignedPartition, topic: TopicIdentity): void;
  /** The log ends before the position: it is another log, or was cut. */
  beyond(partition: AssignedPartition, end: number, earliest: number): void;
}

/** The state of reading one partition. */
export class PartitionCursor {
  readonly partition: AssignedPartition;
  /** When reading began. */
  readonly since: number;
  /** The last known leader. */
  leader: number | undefined;
  /** The connection with a request about it under way. */
  busyOn: KafkaConnection | undefined;
  /** Why the position must be found first. Set only right after the leader said that it is not in its log. */
  resetting: "uncommitted" | "out-of-range" | undefined;
  /** How often in a row the log ended before the position. */
  beyond = 0;
  /** The number of the last request about it: the longest wait is served first. */
  turn = 0;
  /** The factor of its fetch size, after a fetch did not hold one whole batch. */
  enlarged = 1;
  failures = 0;
  notBefore = Number.NEGATIVE_INFINITY;
  /** When a failure was last reported. */
  reportedAt = Number.NEGATIVE_INFINITY;
  /** When its topic was last known to be the same. */
  identifiedAt: number;
  /** When an answer about it last arrived. */
  heardAt: number;
  /** When the position last moved, or was at the end. */
  movedAt: number;
  /** How many offsets are ahead, and how many of them are not in an open transaction. */
  behind = 0;
  readable = 0;
  /** Whether the last answer said that a quota is used up. */
  throttled = false;
  /** The bytes that are being decoded over several turns. Nothing more is fetched meanwhile, on any connection. */
  decoding: Buffer | undefined;
  /** Whether its silence was reported. */
  silent = false;

  constructor(partition: AssignedPartition, now: number) {
    this.partition = partition;
    this.since = now;
    this.identifiedAt = now;
    this.heardAt = now;
    this.movedAt = now;
  }

  succeeded(now: number): void {
    this.failures = 0;
    this.throttled = false;
    this.beyond = 0;
    this.reportedAt = Number.NEGATIVE_INFINITY;
    this.heardAt = now;
  }
}
