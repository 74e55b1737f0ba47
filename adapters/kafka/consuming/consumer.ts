import type { DeliveryToken, Settlement, SettleResult } from "../../../core/adapter.ts";
import type { Clock, Random, Timer } from "../../../core/clock.ts";
import { DECLARE_IT, MessagingError } from "../../../core/errors.ts";
import { type BackoffTimes, backoffMs } from "../../../core/retry-policy.ts";
import { firstAssignment, type GroupMember, type RebalanceListener } from "../group/coordinator.ts";
import { withoutId } from "../names.ts";
import type { KafkaConnection } from "../port.ts";
import {
  type AssignedPartition,
  AssignedPartitions,
  type ConsumerOptions,
  type RecordConsumer,
  type RecordSink,
  ReferenceReviews,
  SettleResults,
} from "./assigned-partition.ts";
import { Committer } from "./committer.ts";
import { commitError, uncommittedNotice } from "./fetch-failures.ts";
import { Fetcher } from "./fetcher.ts";
import { type DeliveredRecord, InFlightRecord } from "./partition-ledger.ts";
import { type ConsumerDependencies, PartitionLifecycle } from "./partition-lifecycle.ts";

interface DispatcherEvents {
  deliver(records: readonly DeliveredRecord[]): void;
  /** A commit is needed. */
  commit(): void;
}

/**
 * Delivers records: no more than the prefetch, fairly over the partitions, and none above the committed watermark. With
 * a prefetch of 1 a record waits until no other is in flight and a crash would blame no other.
 */
class RecordDispatcher {
  readonly #partitions: AssignedPartitions;
  readonly #perPartition: boolean;
  readonly #events: DispatcherEvents;
  #prefetch: number;
  #turn = 0;
  #isDispatching = false;
  #again = false;

  constructor(
    partitions: AssignedPartitions,
    { prefetch, prefetchPer }: Pick<ConsumerOptions, "prefetch" | "prefetchPer">,
    events: DispatcherEvents,
  ) {
    this.#partitions = partitions;
    this.#perPartition = prefetchPer === "partition";
    this.#prefetch = prefetch;
    this.#events = events;
  }

  get prefetch(): number {
    return this.#prefetch;
  }

  set prefetch(count: number) {
    this.#prefetch = count;
    this.dispatch();
  }

  /** Delivers what is allowed now, and requests the commits that the rest waits for. */
  dispatch(): void {
    this.#again = true;
    if (this.#isDispatching) return;
    this.#isDispatching = true;
    while (this.#again) {
      this.#again = false;
      const batch: DeliveredRecord[] = [];
      this.#fill(batch);
      if (batch.length > 0) this.#events.deliver(batch);
    }
    this.#isDispatching = false;
  }

  /** Whether each delivery waits for the settlement before it. */
  get exact(): boolean {
    return this.#prefetch <= 1;
  }

  /** Whether delivery waits for the next commit, or soon will. */
  get isPressing(): boolean {
    if (this.exact) return true;
    let unsettled = 0;
    for (const partition of this.#partitions.all) {
      if (partition.closing || partition.watermark.isRequested) return true;
      unsettled = this.#perPartition ? Math.max(unsettled, partition.unsettled) : unsettled + partition.unsettled;
    }
    return unsettled * 2 >= this.#prefetch;
  }

  /** The watermark for the next commit. */
  watermarkOf(partition: AssignedPartition): number {
    const { closing, ledger, single, watermark } = partition;
    // At the end nothing is in flight, and unfinished records are not blamed on a crash.
    if (closing) return ledger.exactWatermark();
    if (this.exact) return Math.max(ledger.exactWatermark(), single === undefined ? 0 : single + 1);
    return ledger.deliveredTo + watermark.ahead(this.#prefetch);
  }

  #fill(batch: DeliveredRecord[]): void {
    const open = this.#partitions.all.filter(
      (partition) => partition.isDispatchable && partition.ledger.next !== undefined,
    );
    if (this.#prefetch === 0 || open.length === 0) return;
    if (this.#prefetch > 1) this.#dispatchMany(open, batch);
    else if (this.#perPartition) for (const partition of open) this.#dispatchExactly(partition, [], batch);
    else this.#dispatchOne(open, batch);
  }

  /** Delivers one record of these partitions if nothing else is in flight. */
  #dispatchOne(candidates: readonly AssignedPartition[], batch: DeliveredRecord[]): void {
    const { all } = this.#partitions;
    if (all.some(({ ledger }) => ledger.inFlight > 0)) return;
    const chosen = candidates.find(isChosen) ?? candidates[this.#turn++ % candidates.length];
    if (chosen === undefined) return;
    const others = all.filter((other) => other !== chosen);
    for (const other of others) other.single = undefined;
    this.#dispatchExactly(chosen, others, batch);
  }

  /** Delivers the next record of a partition once a crash would blame no other record of these partitions. */
  #dispatchExactly(partition: AssignedPartition, others: readonly AssignedPartition[], batch: DeliveredRecord[]): void {
    const { ledger, watermark } = partition;
    const next = ledger.next;
    if (next === undefined || ledger.inFlight > 0) return;
    const inexact = others.filter((other) => other.ledger.begun && !other.suspended && !other.exact);
    for (const other of inexact) other.urgent = true;
    // The commit that confirms the previous record also covers this one.
    const ready = ledger.unconfirmed === 0 && watermark.allows(next.offset) && watermark.endsBy(next.offset + 1);
    if (!ready) {
      partition.single = next.offset;
      partition.urgent = true;
    }
    if (!ready || inexact.length > 0) {
      this.#events.commit();
      return;
    }
    partition.single = undefined;
    this.#take(partition, batch);
  }

  #dispatchMany(open: readonly AssignedPartition[], batch: DeliveredRecord[]): void {
    let room = Number.POSITIVE_INFINITY;
    if (!this.#perPartition) {
      room = this.#prefetch;
      for (const { unsettled } of this.#partitions.all) room -= unsettled;
    }
    const first = this.#turn++ % open.length;
    let hungry = [...open.slice(first), ...open.slice(0, first)];
    while (room > 0 && hungry.length > 0) {
      const share = Math.ceil(Math.min(room, this.#prefetch * hungry.length) / hungry.length);
      hungry = hungry.filter((partition) => {
        const own = this.#perPartition ? this.#prefetch - partition.unsettled : room;
        const most = Math.min(share, own, room);
        const taken = this.#takeMany(partition, most, batch);
        room -= taken;
        return taken === share;
      });
    }
  }

  #takeMany(partition: AssignedPartition, most: number, batch: DeliveredRecord[]): number {
    const { ledger, watermark } = partition;
    for (let taken = 0; taken < most; taken++) {
      const next = ledger.next;
      if (next === undefined) return taken;
      if (!watermark.allows(next.offset)) {
        watermark.request();
        partition.urgent = true;
        this.#events.commit();
        return taken;
      }
      this.#take(partition, batch);
    }
    return Math.max(most, 0);
  }

  #take(partition: AssignedPartition, batch: DeliveredRecord[]): void {
    const entry = partition.ledger.take();
    if (entry === undefined) return;
    partition.watermark.onDelivered();
    batch.push(entry);
  }
}

function isChosen({ ledger, single }: AssignedPartition): boolean {
  return single !== undefined && single === ledger.next?.offset;
}

/** How often the consumer checks its state. */
const CHECK_MS = 1_000;
/** Failed commits in a row are reported from this number on, at each doubling. */
const REPORT_FROM_FAILURES = 4;

/** Reads its partitions, delivers their records and commits what is finished. */
class PartitionConsumer implements RecordConsumer {
  readonly leaseMs = undefined;
  readonly fetcher: Fetcher;
  readonly #dependencies: ConsumerDependencies;
  readonly #group: string;
  readonly #partitions = new AssignedPartitions();
  readonly #rebalances: PartitionLifecycle;
  readonly #dispatcher: RecordDispatcher;
  readonly #health: Health;
  readonly #reviews: ReferenceReviews | undefined;
  #committer: Committer | undefined;
  #member: GroupMember | undefined;
  #tick: Timer | undefined;
  #closing: Promise<void> | undefined;

  constructor(dependencies: ConsumerDependencies, options: ConsumerOptions, sink: RecordSink) {
    const { group, wanted, deliversUnreadable = false, references } = options;
    this.#dependencies = dependencies;
    this.#group = group;
    this.#health = new Health(dependencies.clock, sink);
    this.#dispatcher = new RecordDispatcher(this.#partitions, options, {
      deliver: (records) => {
        this.#health.delivered();
        sink.deliver(records);
      },
      commit: () => this.#committer?.commit(),
    });
    this.#rebalances = new PartitionLifecycle(group, this.#partitions, dependencies, sink, {
      read: (partition) => {
        this.#health.answered();
        this.fetcher.add(partition);
      },
      unread: (partition) => this.fetcher.remove(partition),
      commit: () => this.#committer?.commit(),
      dispatch: () => this.#dispatch(),
      stalled: (cause, kind) => this.#health.stalled(cause, kind),
      failed: (cause) => this.#health.failed(cause),
    });
    this.fetcher = new Fetcher(
      { ...dependencies, wanted, deliversUnreadable },
      {
        fetched: () => this.#dispatcher.dispatch(),
        stalled: (cause, kind) => this.#health.stalled(cause, kind),
        notice: (error) => sink.notice(error),
        uncommitted: (partition, earliest) =>
          this.#health.notice(uncommittedNotice(partition, group, earliest), `uncommitted ${partition.topic}`),
        vanished: (partition) => this.#rebalances.vanished(partition),
        identified: (partition, topic) => this.#rebalances.identified(partition, topic),
        beyond: (partition, end, earliest) => this.#rebalances.beyond(partition, end, earliest),
      },
    );
    if (references !== undefined) {
      const changed = (): void => this.#committer?.commit();
      const { clock, reviewMs: everyMs } = dependencies;
      this.#reviews = new ReferenceReviews({ clock, everyMs, partitions: this.#partitions, references, changed });
    }
  }

  /** Hears of assigned and revoked partitions. */
  get listener(): RebalanceListener {
    return this.#rebalances;
  }

  /** The member exists and joins the group. */
  start(member: GroupMember): void {
    this.#member = member;
    this.#committer = new Committer(member, this.#partitions, this.#dependencies, {
      watermarkOf: (partition) => this.#dispatcher.watermarkOf(partition),
      isPressing: () => this.#dispatcher.isPressing,
      answered: (committed) => {
        if (committed) this.#health.answered();
        this.#dispatch();
        this.#rebalances.check();
      },
      fenced: (partition) => this.#rebalances.fenced(partition),
      failing: (partition, failures) => this.#failing(partition, failures),
      progressed: (at) => this.#dependencies.progressed?.(at),
    });
    this.#rebalances.start(member);
    this.#checkLater();
  }

  prefetch(count: number): void {
    this.#dispatcher.prefetch = count;
    this.fetcher.pump();
  }

  settle(batch: readonly Settlement[]): Promise<readonly SettleResult[]> {
    const answer = new SettleResults(batch.length);
    let requeued = false;
    for (let index = 0; index < batch.length; index++) {
      const { token, action } = batch[index] as Settlement;
      const partition =
        token instanceof InFlightRecord && token.isUnsettled ? this.#partitions.of(token.ledger) : undefined;
      if (partition === undefined) {
        answer.set(index, "fenced");
      } else if (action === "requeue") {
        partition.ledger.requeue(token as InFlightRecord);
        requeued = true;
        answer.set(index, "settled");
      } else {
        partition.ledger.finish(token as InFlightRecord);
        partition.settlements.add(answer, index);
        partition.urgent = true;
      }
    }
    this.#committer?.commit();
    if (requeued || this.#dispatcher.exact) this.#dispatch();
    this.#rebalances.check();
    return answer.results;
  }

  keep(token: DeliveryToken): (() => void) | undefined {
    if (!(token instanceof InFlightRecord) || !token.isUnsettled || this.#partitions.of(token.ledger) === undefined)
      return undefined;
    return token.ledger.kept.keep(token.record.offset);
  }

  extend(batch: readonly unknown[]): Promise<readonly boolean[]> {
    return Promise.resolve(batch.map((token) => token instanceof InFlightRecord && token.isUnsettled));
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    if (this.#tick !== undefined) this.#dependencies.clock.cancel(this.#tick);
    await this.#rebalances.close();
    this.#committer?.close();
    await this.#member?.close();
    await this.fetcher.close();
  }

  #dispatch(): void {
    this.#dispatcher.dispatch();
    this.fetcher.pump();
  }

  #failing(partition: AssignedPartition, failures: number): void {
    if (failures < REPORT_FROM_FAILURES || Math.log2(failures) % 1 !== 0) return;
    this.#health.stalled(commitError(partition, this.#group, failures), `${failures} commits`);
  }

  #checkLater(): void {
    this.#tick = this.#dependencies.clock.schedule(() => {
      this.#check();
      this.#checkLater();
    }, CHECK_MS);
  }

  #check(): void {
    this.fetcher.check();
    for (const partition of this.#partitions.all) commitIdle(partition);
    this.#committer?.commit();
    this.#reviews?.check();
    const failing =
      this.fetcher.failing ||
      this.#rebalances.failing ||
      this.#partitions.all.some(({ commitFailures }) => commitFailures > 0);
    this.#health.check(failing);
  }
}

/** Commits what nothing waits for: skipped records, and a lower watermark while nothing arrives. */
function commitIdle(partition: AssignedPartition): void {
  const { ledger, watermark, behind } = partition;
  const idle = watermark.isIdle(ledger.deliveredTo);
  if (idle) watermark.reset();
  if (idle || behind) partition.urgent = true;
}

/** {@link ConsumerDependencies} with defaults. */
interface OpenConsumerDependencies
  extends Omit<ConsumerDependencies, "retry" | "maxBufferBytes" | "drainMs" | "sessionTimeoutMs" | "reviewMs"> {
  /** Between retries. Default: 100 ms, doubled up to 3 s. */
  readonly retry?: BackoffTimes | undefined;
  /** About how many bytes are read ahead in all. Default 64 MiB. */
  readonly maxBufferBytes?: number | undefined;
  /** Milliseconds that deliveries may take to settle when their partition is revoked. Default 60,000. */
  readonly drainMs?: number | undefined;
  /** The session timeout of the group's members, in milliseconds. Default 30,000. */
  readonly sessionTimeoutMs?: number | undefined;
  /** See {@link ConsumerDependencies.reviewMs}. Default 600,000, since each review reads all dead letters. */
  readonly reviewMs?: number | undefined;
}

const DEFAULT_RETRY: BackoffTimes = Object.freeze({ firstMs: 100, maxMs: 3_000 });
const DEFAULT_BUFFER_BYTES = 64 * 1024 * 1024;
const DEFAULT_DRAIN_MS = 60_000;
const DEFAULT_SESSION_MS = 30_000;
const DEFAULT_REVIEW_MS = 600_000;
/** Not every broker knows a new topic at once. */
const ATTEMPTS_TO_FIND = 5;

/**
 * Joins a group and consumes its partitions. Resolves once the partitions are assigned, or after 10 s, when `stalled`
 * says why. Rejects with `not-found` for a missing topic, `conflict` for members of another protocol, `unauthorized`,
 * `unreachable`, or `unsupported` for a topic without an id.
 */
export async function openConsumer(
  dependencies: OpenConsumerDependencies,
  options: ConsumerOptions,
  sink: RecordSink,
): Promise<RecordConsumer> {
  const { retry = DEFAULT_RETRY, maxBufferBytes = DEFAULT_BUFFER_BYTES, drainMs = DEFAULT_DRAIN_MS } = dependencies;
  const { sessionTimeoutMs = DEFAULT_SESSION_MS, reviewMs = DEFAULT_REVIEW_MS } = dependencies;
  const all = { ...dependencies, retry, maxBufferBytes, drainMs, sessionTimeoutMs, reviewMs };
  const consumer = new PartitionConsumer(all, options, sink);
  try {
    await findTopics(consumer.fetcher.connection, options.topics, { ...dependencies, retry });
    const { group, topics } = options;
    const member = dependencies.openMember({ group, topics }, consumer.listener);
    consumer.start(member);
    await firstAssignment(dependencies.clock, member);
  } catch (error) {
    await consumer.close();
    throw error;
  }
  return consumer;
}

async function findTopics(
  connection: KafkaConnection,
  topics: readonly string[],
  { clock, random, retry }: { readonly clock: Clock; readonly random: Random; readonly retry: BackoffTimes },
): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const found = await connection.metadata(topics);
    const refused = found.topics.find(({ error }) => error === "TOPIC_AUTHORIZATION_FAILED");
    if (refused !== undefined) {
      throw new MessagingError("unauthorized", `topic "${refused.topic}" cannot be read: grant the user READ on it`);
    }
    const nameless = found.topics.find(({ error, id }) => error === undefined && id === "");
    if (nameless !== undefined) throw withoutId(nameless.topic);
    const missing = topics.find(
      (wanted) => !found.topics.some(({ topic, error }) => topic === wanted && error === undefined),
    );
    if (missing === undefined) return;
    if (attempt === ATTEMPTS_TO_FIND) {
      throw new MessagingError("not-found", `topic "${missing}" does not exist; ${DECLARE_IT}`);
    }
    await new Promise<void>((resolve) => clock.schedule(resolve, backoffMs(attempt, retry, random)));
  }
}

/** A member that keeps failing reports it within this time. */
const FAILED_FOR_MS = 15_000;
/** How long the same problem is not reported again, for any partition. */
const AGAIN_AFTER_MS = 30_000;

/** A problem that several partitions share. */
interface Problem {
  readonly cause: MessagingError;
  others: number;
}

/**
 * Tracks whether the sink knows the consumer as stalled. A problem that partitions share (`kind`) is reported once per
 * turn, with the number of partitions, and a stall at most every 30 s, also if all could be read in between. One that
 * comes earlier is reported then, unless it is over.
 */
export class Health {
  readonly #clock: Clock;
  readonly #sink: RecordSink;
  readonly #stalls = new Map<string, Problem>();
  readonly #notices = new Map<string, Problem>();
  readonly #reportedAt = new Map<string, number>();
  #isDue = false;
  #stalled = false;
  #failedAt = Number.NEGATIVE_INFINITY;

  constructor(clock: Clock, sink: RecordSink) {
    this.#clock = clock;
    this.#sink = sink;
  }

  stalled(cause: MessagingError, kind?: string): void {
    if (kind !== undefined) {
      this.#gather(this.#stalls, cause, kind);
      return;
    }
    this.#stalled = true;
    this.#sink.stalled(cause);
  }

  notice(error: MessagingError, kind: string): void {
    this.#gather(this.#notices, error, kind);
  }

  /** The member failed and tries again. */
  failed(cause: MessagingError): void {
    this.#failedAt = this.#clock.monotonic();
    this.stalled(cause);
  }

  /** The coordinator answered the member. */
  answered(): void {
    this.#failedAt = Number.NEGATIVE_INFINITY;
  }

  /** Records were delivered, so the consumer flows. */
  delivered(): void {
    this.#stalled = false;
  }

  /** Reports the end of a stall once nothing fails any more. */
  check(failing: boolean): void {
    if (failing) {
      if (this.#stalls.size > 0) this.#report();
      return;
    }
    if (!this.#isDue) this.#stalls.clear();
    if (!this.#stalled || this.#clock.monotonic() - this.#failedAt < FAILED_FOR_MS) return;
    this.#stalled = false;
    this.#sink.flowing?.();
  }

  #gather(problems: Map<string, Problem>, cause: MessagingError, kind: string): void {
    const problem = problems.get(kind);
    if (problem !== undefined) problem.others++;
    else problems.set(kind, { cause, others: 0 });
    if (this.#isDue) return;
    this.#isDue = true;
    queueMicrotask(() => this.#report());
  }

  #report(): void {
    this.#isDue = false;
    const notices = [...this.#notices.values()];
    this.#notices.clear();
    for (const problem of notices) this.#sink.notice(errorOf(problem));
    const now = this.#clock.monotonic();
    for (const [kind, problem] of [...this.#stalls]) {
      if (now - (this.#reportedAt.get(kind) ?? Number.NEGATIVE_INFINITY) < AGAIN_AFTER_MS) continue;
      this.#stalls.delete(kind);
      this.#reportedAt.set(kind, now);
      this.stalled(errorOf(problem));
    }
  }
}

function errorOf({ cause, others }: Problem): MessagingError {
  if (others === 0) return cause;
  const partitions = others === 1 ? "another partition" : `${others} other partitions`;
  return new MessagingError(cause.code, `${cause.message} (the same of ${partitions})`, { cause });
}
