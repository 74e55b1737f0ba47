import type { Settlement, SettleResult } from "../../../core/adapter.ts";
import type { Clock, Timer } from "../../../core/clock.ts";
import { Quiet } from "../../../core/engine/quiet.ts";
import { MessagingError } from "../../../core/errors.ts";
import type { GroupMember, MemberOwner } from "../group/contract.ts";
import type { TopicPartition } from "../port.ts";
import { Assignments } from "./assignments.ts";
import { Committer } from "./committer.ts";
import type { ConsumerParts } from "./consumer-parts.ts";
import type { ConsumerOptions, HeldRecord, RecordConsumer, RecordSink } from "./contract.ts";
import { Dealer } from "./dealer.ts";
import { Fetcher } from "./fetcher.ts";
import type { FetcherHost } from "./fetcher-parts.ts";
import { HeldEntry } from "./held-entry.ts";
import { describePartition, OwnedPartition } from "./owned-partition.ts";
import { OwnedPartitions } from "./owned-partitions.ts";
import { beginning } from "./progress.ts";
import { SettleAnswer } from "./settlements.ts";
import { beyondNotice, commitError, madeAgainNotice, uncommittedNotice } from "./stalls.ts";

/** How often it looks after itself. */
const CHECK_MS = 1_000;
/** How long the last commit for a partition may take. */
const LAST_COMMIT_MS = 5_000;
/** From so many failed commits in a row on it is told, at every doubling. */
const TOLD_FROM_FAILURES = 4;

/** Takes the records of its partitions, hands them out, and commits what was finished. */
export class PartitionConsumer implements RecordConsumer, MemberOwner {
  readonly leaseMs = undefined;
  readonly fetcher: Fetcher;
  readonly #options: ConsumerOptions;
  readonly #parts: ConsumerParts;
  readonly #clock: Clock;
  readonly #sink: RecordSink;
  readonly #partitions = new OwnedPartitions();
  readonly #assignments: Assignments;
  readonly #dealer: Dealer;
  readonly #quiet: Quiet;
  #committer: Committer | undefined;
  #member: GroupMember | undefined;
  #tick: Timer | undefined;
  #closing: Promise<void> | undefined;

  constructor(parts: ConsumerParts, options: ConsumerOptions, sink: RecordSink) {
    this.#parts = parts;
    this.#clock = parts.clock;
    this.#options = options;
    this.#sink = sink;
    this.#quiet = new Quiet(parts.clock);
    this.fetcher = new Fetcher({ ...parts, wanted: options.wanted }, this.#fetcherHost());
    this.#dealer = new Dealer(this.#partitions, options, {
      deliver: (records) => sink.deliver(records),
      commit: () => this.#committer?.commit(),
    });
    this.#assignments = new Assignments(options.group, parts, {
      begin: (partition, uncommitted) => this.#begin(partition, uncommitted),
      stalled: (cause) => sink.stalled(cause),
      notice: (error) => sink.notice(error),
    });
  }

  /** The membership stands. What was assigned before waits for this. */
  start(member: GroupMember): void {
    this.#member = member;
    this.#committer = new Committer(member, this.#partitions, this.#parts, {
      reachOf: (partition) => this.#dealer.reachOf(partition),
      answered: () => this.#answered(),
      fenced: (partition) => this.#fenced(partition),
      failing: (partition, failures) => this.#failing(partition, failures),
      progressed: (at) => this.#parts.progressed?.(at),
    });
    this.#assignments.start(member);
    this.#checkLater();
  }

  // The receiver.

  window(count: number): void {
    this.#dealer.window = count;
    this.fetcher.pump();
  }

  settle(batch: readonly Settlement[]): Promise<readonly SettleResult[]> {
    const answer = new SettleAnswer(batch.length);
    let released = false;
    for (let index = 0; index < batch.length; index++) {
      const { token, action } = batch[index] as Settlement;
      const partition = token instanceof HeldEntry && token.held ? this.#partitions.of(token.ledger) : undefined;
      if (partition === undefined) {
        answer.set(index, "fenced");
      } else if (action === "release") {
        partition.ledger.release(token as HeldEntry);
        released = true;
        answer.set(index, "settled");
      } else {
        partition.ledger.finish(token as HeldEntry);
        partition.settlements.add(answer, index);
        partition.urgent = true;
      }
    }
    this.#committer?.commit();
    if (released || this.#dealer.exact) this.#deal();
    this.#quiet.check();
    return answer.results;
  }

  extend(batch: readonly unknown[]): Promise<readonly boolean[]> {
    return Promise.resolve(batch.map((token) => token instanceof HeldEntry && token.held));
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    if (this.#tick !== undefined) this.#clock.cancel(this.#tick);
    this.#assignments.close();
    const partitions = this.#partitions.all;
    for (const partition of partitions) {
      this.#retire(partition);
      partition.ledger.abandon();
    }
    await this.#commitLast(partitions);
    this.#committer?.close();
    for (const partition of this.#partitions.all) this.#drop(partition);
    await this.#member?.close();
    await this.fetcher.close();
  }

  // The member's partitions.

  assigned(partitions: readonly TopicPartition[]): void {
    if (this.#closing !== undefined) return;
    // If one was ours already, its former life has ended.
    for (const partition of this.#owned(partitions)) this.#lose(partition, this.#notOurs(partition));
    this.#assignments.add(partitions);
  }

  async revoke(partitions: readonly TopicPartition[]): Promise<void> {
    this.#assignments.remove(partitions);
    const revoked = this.#owned(partitions);
    for (const partition of revoked) this.#retire(partition);
    const held = revoked.flatMap(({ ledger }) => ledger.held());
    if (held.length > 0) this.#sink.recall(held);
    await this.#quiet.until(
      () => revoked.every(({ gone, ledger }) => gone || ledger.inHands === 0),
      this.#parts.drainMs,
    );
    const left = revoked.flatMap(({ ledger }) => ledger.abandon());
    if (left.length > 0) this.#sink.lost(left, this.#overdueError(left));
    await this.#commitLast(revoked);
    for (const partition of revoked) this.#drop(partition);
  }

  lost(partitions: readonly TopicPartition[], cause: MessagingError): void {
    this.#assignments.remove(partitions);
    for (const partition of this.#owned(partitions)) this.#lose(partition, cause);
    this.#deal();
  }

  failed(cause: MessagingError): void {
    if (this.#closing === undefined) this.#sink.stalled(cause);
  }

  #owned(partitions: readonly TopicPartition[]): readonly OwnedPartition[] {
    return partitions.flatMap((at) => this.#partitions.get(at) ?? []);
  }

  #begin(partition: OwnedPartition, uncommitted: boolean): void {
    this.#partitions.add(partition);
    this.fetcher.add(partition, uncommitted);
    this.fetcher.pump();
  }

  /** Nothing more of it is read or handed out. */
  #retire(partition: OwnedPartition): void {
    partition.closing = true;
    partition.clean = false;
    this.fetcher.remove(partition);
  }

  async #commitLast(partitions: readonly OwnedPartition[]): Promise<void> {
    for (const partition of partitions) {
      partition.urgent = true;
      partition.commitNotBefore = Number.NEGATIVE_INFINITY;
    }
    this.#committer?.commit();
    // Where nothing was read yet nothing was touched either: what is committed still stands.
    const over = ({ gone, clean, suspended, ledger }: OwnedPartition): boolean =>
      gone || clean || suspended || !ledger.begun;
    await this.#quiet.until(() => partitions.every(over), LAST_COMMIT_MS);
  }

  #lose(partition: OwnedPartition, cause: MessagingError): void {
    const held = partition.ledger.abandon();
    this.#drop(partition);
    if (held.length > 0) this.#sink.lost(held, cause);
  }

  #drop(partition: OwnedPartition): void {
    if (partition.gone) return;
    partition.gone = true;
    this.fetcher.remove(partition);
    this.#partitions.remove(partition);
    partition.settlements.fence();
    this.#quiet.check();
  }

  // What happens to the partitions.

  #deal(): void {
    this.#dealer.deal();
    this.fetcher.pump();
  }

  #answered(): void {
    this.#deal();
    this.#quiet.check();
  }

  /** The member may not know it yet, or be told otherwise by now: if it does not take the partition away it begins anew. */
  #fenced(partition: OwnedPartition): void {
    this.#lose(partition, this.#notOurs(partition));
    this.#assignments.again(partition);
  }

  #notOurs(partition: OwnedPartition): MessagingError {
    const what = `${describePartition(partition)} went to another member of group "${this.#options.group}"`;
    return new MessagingError("unreachable", `${what}; what was out is delivered again`);
  }

  #failing(partition: OwnedPartition, failures: number): void {
    if (failures < TOLD_FROM_FAILURES || Math.log2(failures) % 1 !== 0) return;
    this.#sink.stalled(commitError(partition, this.#options.group, failures));
  }

  #fetcherHost(): FetcherHost {
    return {
      fetched: () => this.#dealer.deal(),
      stalled: (cause) => this.#sink.stalled(cause),
      notice: (error) => this.#sink.notice(error),
      uncommitted: (partition, earliest) =>
        this.#sink.notice(uncommittedNotice(partition, this.#options.group, earliest)),
      vanished: (partition) => {
        partition.suspended = true;
        this.#member?.refresh();
        this.#quiet.check();
      },
      returned: (partition) => void this.#returned(partition),
      beyond: (partition, end, earliest) => {
        const cause = beyondNotice(partition, partition.ledger.position, end, earliest);
        this.#sink.notice(cause);
        this.#lose(partition, cause);
        this.#begin(new OwnedPartition(partition, beginning(earliest)), false);
      },
    };
  }

  /** A topic that is deleted takes its committed offsets along; if they stand, it is the one we know. */
  async #returned(partition: OwnedPartition): Promise<void> {
    const found = await this.#member?.committed([partition]).catch(() => undefined);
    if (partition.gone || !partition.suspended || found === undefined) return;
    if ((found[0]?.offset ?? -1) < 0) {
      const cause = madeAgainNotice(partition, this.#options.group);
      this.#sink.notice(cause);
      this.#lose(partition, cause);
      this.#begin(new OwnedPartition(partition, beginning(0)), true);
      return;
    }
    partition.suspended = false;
    this.#committer?.commit();
    this.#deal();
  }

  #overdueError(left: readonly HeldRecord[]): MessagingError {
    const { drainMs } = this.#parts;
    const first = left[0] as HeldRecord;
    return new MessagingError(
      "timeout",
      `${left.length} records, the first of them of ${describePartition(first)}, were not done within ${drainMs} ms, when others were to have their partitions; they are delivered there again`,
    );
  }

  #checkLater(): void {
    this.#tick = this.#clock.schedule(() => {
      this.fetcher.check();
      for (const partition of this.#partitions.all) this.#rest(partition);
      this.#committer?.commit();
      this.#checkLater();
    }, CHECK_MS);
  }

  /** Commits what nobody waits for: what was passed over, and that little is in our reach while nothing comes. */
  #rest(partition: OwnedPartition): void {
    const { ledger, reach, committedOffset } = partition;
    const idle = reach.isIdle(ledger.handedOutTo);
    if (idle) reach.rest();
    if (idle || committedOffset !== ledger.prefix) partition.urgent = true;
  }
}
