import { afterCurrentTurn, type Timer } from "../../../core/clock.ts";
import { identityOf, partitionKey } from "../names.ts";
import type { FetchedPartition, KafkaConnection } from "../port.ts";
import type { DecodedRecords } from "../records/contract.ts";
import { unreadableRecord } from "../records/read.ts";
import type { AssignedPartition } from "./assigned-partition.ts";
import {
  type FetcherDependencies,
  type FetcherEvents,
  FetchFailures,
  findLogBounds,
  findSilence,
  missingNotice,
  PartitionCursor,
  unreadableError,
} from "./fetch-failures.ts";

/** The requests to make now. */
interface PollPlan {
  /** Without a known leader. */
  readonly lost: readonly PartitionCursor[];
  /** By node: those whose position must be found. */
  readonly resetting: ReadonlyMap<number, readonly PartitionCursor[]>;
  /** By node: those to read. */
  readonly polls: ReadonlyMap<number, readonly PartitionCursor[]>;
  /** When the first pause ends. */
  readonly wakeAt: number;
}

function planPolls(
  cursors: Iterable<PartitionCursor>,
  now: number,
  connection: KafkaConnection,
  hasRoom: (cursor: PartitionCursor) => boolean,
): PollPlan {
  const lost: PartitionCursor[] = [];
  const resetting = new Map<number, PartitionCursor[]>();
  const polls = new Map<number, PartitionCursor[]>();
  let wakeAt = Number.POSITIVE_INFINITY;
  for (const cursor of cursors) {
    const { leader } = cursor;
    const waits = cursor.notBefore > now;
    if (waits) wakeAt = Math.min(wakeAt, cursor.notBefore);
    const free = cursor.busyOn !== connection && !waits && cursor.decoding === undefined;
    if (leader === undefined) {
      if (free) lost.push(cursor);
      continue;
    }
    if (!free) continue;
    if (cursor.resetting !== undefined) push(resetting, leader, cursor);
    else if (hasRoom(cursor)) push(polls, leader, cursor);
  }
  return { lost, resetting, polls, wakeAt };
}

function push(byNode: Map<number, PartitionCursor[]>, node: number, cursor: PartitionCursor): void {
  const those = byNode.get(node);
  if (those === undefined) byNode.set(node, [cursor]);
  else those.push(cursor);
}

/** The longest heartbeat interval and clock difference. */
const MAX_SILENCE_MS = 2_000;
const UNKNOWN = "UNKNOWN_TOPIC_OR_PARTITION";
const NO_LEADER = "LEADER_NOT_AVAILABLE";
/** How long the server may hold an empty answer back, except a partition's first, which reports the log's end. */
const LONG_POLL_MS = 10_000;
const MIB = 1024 * 1024;
/** The most bytes of an answer. */
const ANSWER_BYTES = 8 * MIB;
const MAX_PIECE_BYTES = MIB;
const MIN_PIECE_BYTES = MIB / 16;
/** How often the topic is checked while nothing of it is read. */
const IDENTIFY_EVERY_MS = 10_000;
/** The highest factor of a fetch that held no whole batch. */
const MAX_ENLARGED = 128;

/**
 * Reads ahead in every assigned partition, up to its buffer, by long polls for those with room. A failure in one
 * partition does not affect the others.
 */
export class Fetcher {
  readonly #dependencies: FetcherDependencies;
  readonly #events: FetcherEvents;
  readonly #failures: FetchFailures;
  readonly #cursors = new Map<AssignedPartition, PartitionCursor>();
  #connection: KafkaConnection;
  #locating = false;
  #turn = 0;
  #wake: Timer | undefined;
  #closed = false;

  constructor(dependencies: FetcherDependencies, events: FetcherEvents) {
    this.#dependencies = dependencies;
    this.#events = events;
    this.#failures = new FetchFailures(dependencies, events);
    this.#connection = dependencies.client.connection();
  }

  get connection(): KafkaConnection {
    return this.#connection;
  }

  /** Starts to read a partition; without a commit, at the earliest record. */
  add(partition: AssignedPartition): void {
    this.#cursors.set(partition, new PartitionCursor(partition, this.#dependencies.clock.monotonic()));
    // Partitions arrive together and are asked about together.
    afterCurrentTurn(() => this.pump());
  }

  /** Whether some partition cannot be read now. */
  get failing(): boolean {
    for (const { failures, silent } of this.#cursors.values()) if (failures > 0 || silent) return true;
    return false;
  }

  remove(partition: AssignedPartition): void {
    this.#cursors.delete(partition);
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#cancelWake();
    this.#cursors.clear();
    await this.#connection.close().catch(() => {});
  }

  /** Starts a request for every partition with room. */
  pump(): void {
    if (this.#closed) return;
    const now = this.#dependencies.clock.monotonic();
    const hasRoom = (cursor: PartitionCursor): boolean => this.#hasRoom(cursor);
    const { lost, resetting, polls, wakeAt } = planPolls(this.#cursors.values(), now, this.#connection, hasRoom);
    if (lost.length > 0 && !this.#locating) void this.#locate(lost);
    for (const [node, cursors] of resetting) void this.#findBounds(node, cursors);
    for (const [node, cursors] of polls) {
      const byBegun = Map.groupBy(cursors, ({ partition }) => partition.ledger.begun);
      for (const [begun, some] of byBegun) void this.#poll(node, some, begun ? LONG_POLL_MS : 0);
    }
    this.#wakeAt(wakeAt, now);
  }

  /** Reports silent partitions, and reconnects if that may help. */
  check(): void {
    const now = this.#dependencies.clock.monotonic();
    let reconnect = false;
    let isAnyDue = false;
    for (const cursor of this.#cursors.values()) {
      if (!this.#hasRoom(cursor) && now - cursor.identifiedAt >= IDENTIFY_EVERY_MS) {
        cursor.leader = undefined;
        isAnyDue = true;
      }
      const found = findSilence(cursor, now, cursor.failures === 0 && this.#hasRoom(cursor));
      if (found === undefined) continue;
      cursor.silent = true;
      this.#events.stalled(found.cause, found.kind);
      reconnect ||= found.reconnect;
    }
    if (reconnect) this.#reconnect();
    else if (isAnyDue) this.pump();
  }

  #reconnect(): void {
    const before = this.#connection;
    this.#connection = this.#dependencies.client.connection();
    this.#locating = false;
    for (const cursor of this.#cursors.values()) cursor.leader = undefined;
    before.close({ distrusted: true }).catch(() => {});
    this.pump();
  }

  /** The buffer of each partition, in bytes. */
  get #limit(): number {
    const share = this.#dependencies.maxBufferBytes / Math.max(this.#cursors.size, 1);
    return 2 * Math.min(Math.max(share / 2, MIN_PIECE_BYTES), MAX_PIECE_BYTES);
  }

  /** The next fetch starts while half of the buffer is left. */
  #hasRoom({ partition }: PartitionCursor): boolean {
    return partition.ledger.bufferedBytes * 2 <= this.#limit;
  }

  async #locate(lost: readonly PartitionCursor[]): Promise<void> {
    this.#locating = true;
    const connection = this.#begin(lost);
    try {
      const cluster = await connection.metadata([...new Set(lost.map(({ partition }) => partition.topic))]);
      const { topics } = cluster;
      for (const cursor of this.#end(connection, lost)) {
        const { topic, partition } = cursor.partition;
        const found = topics.find((candidate) => candidate.topic === topic);
        const place = found?.partitions.find((candidate) => candidate.partition === partition);
        const error = found?.error ?? place?.error;
        if (found !== undefined && place !== undefined && place.leader >= 0) {
          cursor.leader = place.leader;
          cursor.identifiedAt = this.#dependencies.clock.monotonic();
          this.#events.identified(cursor.partition, identityOf(cluster, found));
        } else if (place !== undefined || (error ?? UNKNOWN) !== UNKNOWN)
          this.#failures.refused(cursor, error ?? NO_LEADER);
        else this.#failures.unknown(cursor);
      }
    } catch (error) {
      this.#failures.unanswered(this.#end(connection, lost), error);
    }
    if (connection !== this.#connection) return;
    this.#locating = false;
    this.pump();
  }

  async #findBounds(node: number, cursors: readonly PartitionCursor[]): Promise<void> {
    const connection = this.#begin(cursors);
    try {
      const bounds = await findLogBounds(connection, node, cursors);
      for (const cursor of this.#end(connection, cursors)) {
        const found = bounds.get(cursor);
        if (found?.error !== undefined) this.#failures.refused(cursor, found.error);
        else if (found !== undefined) this.#onBounds(cursor, found.earliest, found.latest);
      }
    } catch (error) {
      this.#failures.unanswered(this.#end(connection, cursors), error);
    }
    this.#events.fetched();
    this.pump();
  }

  #onBounds(cursor: PartitionCursor, earliest: number, latest: number): void {
    const { partition, resetting } = cursor;
    const { position } = partition.ledger;
    if (resetting === "uncommitted") {
      if (earliest > 0) this.#events.uncommitted(partition, earliest);
      partition.ledger.skipTo(earliest);
    } else if (position < earliest) {
      this.#events.notice(missingNotice(partition, position, earliest));
      partition.ledger.skipTo(earliest);
    } else if (position > latest) {
      if (this.#failures.beyond(cursor)) this.#events.beyond(partition, latest, earliest);
      return;
    }
    cursor.resetting = undefined;
    this.#failures.over(cursor);
  }

  async #poll(node: number, cursors: PartitionCursor[], maxWaitMs: number): Promise<void> {
    const connection = this.#begin(cursors);
    cursors.sort((one, other) => one.turn - other.turn);
    const piece = this.#limit / 2;
    const partitions = cursors.map((cursor) => {
      cursor.turn = ++this.#turn;
      const { topic, partition, ledger, identity } = cursor.partition;
      const topicId = identity?.id ?? "";
      return { topic, topicId, partition, offset: ledger.position, maxBytes: piece * cursor.enlarged };
    });
    // The first partition of a request gets its first batch whole, of any size.
    const maxBytes = Math.max(ANSWER_BYTES, ...partitions.map((wanted) => wanted.maxBytes));
    try {
      const answer = await connection.fetch(node, { maxWaitMs, minBytes: 1, maxBytes, partitions });
      const pieces = new Map(answer.map((fetched) => [partitionKey(fetched), fetched]));
      for (const cursor of this.#end(connection, cursors)) {
        const fetched = pieces.get(partitionKey(cursor.partition));
        if (fetched?.error !== undefined) this.#failures.refused(cursor, fetched.error);
        else if (fetched !== undefined) this.#read(cursor, fetched, connection);
        else if (answer.length === 0) cursor.throttled = true;
      }
    } catch (error) {
      this.#failures.unanswered(this.#end(connection, cursors), error);
    }
    if (connection !== this.#connection) return;
    this.#events.fetched();
    this.pump();
  }

  #begin(cursors: readonly PartitionCursor[]): KafkaConnection {
    for (const cursor of cursors) cursor.busyOn = this.#connection;
    return this.#connection;
  }

  /** The partitions that the answer still concerns. */
  #end(connection: KafkaConnection, cursors: readonly PartitionCursor[]): readonly PartitionCursor[] {
    if (connection !== this.#connection || this.#closed) return [];
    for (const cursor of cursors) cursor.busyOn = undefined;
    return cursors.filter((cursor) => this.#cursors.get(cursor.partition) === cursor);
  }

  #read(cursor: PartitionCursor, fetched: FetchedPartition, connection: KafkaConnection): void {
    const { topic, partition, ledger } = cursor.partition;
    const { abortedTransactions, records } = fetched;
    const decoded = this.#dependencies.decode(records, {
      topic,
      partition,
      from: ledger.position,
      abortedTransactions,
    });
    if (!(decoded instanceof Promise)) {
      this.#take(cursor, fetched, decoded);
      return;
    }
    this.#begin([cursor]);
    cursor.decoding = records;
    const end = (use: () => void): void => {
      cursor.decoding = undefined;
      if (this.#end(connection, [cursor]).length > 0) {
        use();
        this.#events.fetched();
      }
      this.pump();
    };
    decoded.then(
      (result) => end(() => this.#take(cursor, fetched, result)),
      (error: unknown) => end(() => this.#failures.unanswered([cursor], error)),
    );
  }

  #take(cursor: PartitionCursor, fetched: FetchedPartition, { records, nextOffset, unreadable }: DecodedRecords): void {
    const now = this.#dependencies.clock.monotonic();
    const { partition } = cursor;
    const { ledger } = partition;
    const { position } = ledger;
    const first = records[0]?.offset ?? nextOffset;
    if (fetched.logStartOffset > position && first >= fetched.logStartOffset) {
      this.#events.notice(missingNotice(partition, position, fetched.logStartOffset));
    }
    const { clock, sessionTimeoutMs } = this.#dependencies;
    // The previous consumer's last heartbeat is at least a session timeout old; it crashed before its next one was due.
    ledger.takeOver(fetched.highWatermark, clock.now() - sessionTimeoutMs + MAX_SILENCE_MS);
    ledger.append(records, nextOffset, this.#dependencies.wanted);
    cursor.heardAt = now;
    cursor.identifiedAt = now;
    cursor.behind = fetched.highWatermark - ledger.position;
    cursor.readable = fetched.lastStableOffset - ledger.position;
    const moved = ledger.position > position;
    if (moved || cursor.behind <= 0) {
      cursor.movedAt = now;
      cursor.silent = false;
    }
    if (moved) cursor.enlarged = 1;
    if (unreadable !== undefined && !moved) {
      const { error, extent, offset } = unreadable;
      if (extent === undefined || !this.#dependencies.deliversUnreadable) {
        this.#failures.failed(cursor, unreadableError(error, partition, offset), true);
        return;
      }
      ledger.append([unreadableRecord(offset, extent, error)], extent.lastOffset + 1);
      cursor.movedAt = now;
    }
    // The fetch ended within the first batch.
    if (ledger.position === position && fetched.records.length > 0)
      cursor.enlarged = Math.min(cursor.enlarged * 2, MAX_ENLARGED);
    this.#failures.over(cursor);
  }

  #wakeAt(at: number, now: number): void {
    this.#cancelWake();
    if (at === Number.POSITIVE_INFINITY) return;
    this.#wake = this.#dependencies.clock.schedule(() => {
      this.#wake = undefined;
      this.pump();
    }, at - now);
  }

  #cancelWake(): void {
    if (this.#wake !== undefined) this.#dependencies.clock.cancel(this.#wake);
    this.#wake = undefined;
  }
}
