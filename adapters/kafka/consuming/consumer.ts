import type { DeliveryToken, Settlement, SettleResult } from "../../../core/adapter.ts";
import type { Timer } from "../../../core/clock.ts";
import type { GroupMember, MemberOwner } from "../group/contract.ts";
import { Committer } from "./committer.ts";
import type { ConsumerParts } from "./consumer-parts.ts";
import type { ConsumerOptions, RecordConsumer, RecordSink } from "./contract.ts";
import { Dealer } from "./dealer.ts";
import { Fetcher } from "./fetcher.ts";
import { Health } from "./health.ts";
import { InFlightRecord } from "./in-flight-record.ts";
import type { OwnedPartition } from "./owned-partition.ts";
import { OwnedPartitions } from "./owned-partitions.ts";
import { Ownership } from "./ownership.ts";
import { Reviews } from "./reviews.ts";
import { SettleAnswer } from "./settlements.ts";
import { commitError, uncommittedNotice } from "./stalls.ts";

/** How often it looks after itself. */
const CHECK_MS = 1_000;
/** From so many failed commits in a row on it is told, at every doubling. */
const TOLD_FROM_FAILURES = 4;

/** Takes the records of its partitions, hands them out, and commits what was finished. */
export class PartitionConsumer implements RecordConsumer {
  readonly leaseMs = undefined;
  readonly fetcher: Fetcher;
  readonly #parts: ConsumerParts;
  readonly #group: string;
  readonly #partitions = new OwnedPartitions();
  readonly #ownership: Ownership;
  readonly #dealer: Dealer;
  readonly #health: Health;
  readonly #reviews: Reviews | undefined;
  #committer: Committer | undefined;
  #member: GroupMember | undefined;
  #tick: Timer | undefined;
  #closing: Promise<void> | undefined;

  constructor(parts: ConsumerParts, options: ConsumerOptions, sink: RecordSink) {
    const { group, wanted, deliversUnreadable = false, references } = options;
    this.#parts = parts;
    this.#group = group;
    this.#health = new Health(parts.clock, sink);
    this.#dealer = new Dealer(this.#partitions, options, {
      deliver: (records) => {
        this.#health.delivered();
        sink.deliver(records);
      },
      commit: () => this.#committer?.commit(),
    });
    this.#ownership = new Ownership(group, this.#partitions, parts, sink, {
      read: (partition) => {
        this.#health.answered();
        this.fetcher.add(partition);
      },
      unread: (partition) => this.fetcher.remove(partition),
      commit: () => this.#committer?.commit(),
      deal: () => this.#deal(),
      stalled: (cause, kind) => this.#health.stalled(cause, kind),
      failed: (cause) => this.#health.failed(cause),
    });
    this.fetcher = new Fetcher(
      { ...parts, wanted, deliversUnreadable },
      {
        fetched: () => this.#dealer.deal(),
        stalled: (cause, kind) => this.#health.stalled(cause, kind),
        notice: (error) => sink.notice(error),
        uncommitted: (partition, earliest) =>
          this.#health.notice(uncommittedNotice(partition, group, earliest), `uncommitted ${partition.topic}`),
        vanished: (partition) => this.#ownership.vanished(partition),
        identified: (partition, topic) => this.#ownership.identified(partition, topic),
        beyond: (partition, end, earliest) => this.#ownership.beyond(partition, end, earliest),
      },
    );
    if (references !== undefined) {
      const changed = (): void => this.#committer?.commit();
      const { clock, reviewMs: everyMs } = parts;
      this.#reviews = new Reviews({ clock, everyMs, partitions: this.#partitions, references, changed });
    }
  }

  /** What the member of the group reports to. */
  get owner(): MemberOwner {
    return this.#ownership;
  }

  /** The membership is under way. */
  start(member: GroupMember): void {
    this.#member = member;
    this.#committer = new Committer(member, this.#partitions, this.#parts, {
      reachOf: (partition) => this.#dealer.reachOf(partition),
      isPressing: () => this.#dealer.isPressing,
      answered: (committed) => {
        if (committed) this.#health.answered();
        this.#deal();
        this.#ownership.check();
      },
      fenced: (partition) => this.#ownership.fenced(partition),
      failing: (partition, failures) => this.#failing(partition, failures),
      progressed: (at) => this.#parts.progressed?.(at),
    });
    this.#ownership.start(member);
    this.#checkLater();
  }

  prefetch(count: number): void {
    this.#dealer.prefetch = count;
    this.fetcher.pump();
  }

  settle(batch: readonly Settlement[]): Promise<readonly SettleResult[]> {
    const answer = new SettleAnswer(batch.length);
    let requeued = false;
    for (let index = 0; index < batch.length; index++) {
      const { token, action } = batch[index] as Settlement;
      const partition = token instanceof InFlightRecord && token.held ? this.#partitions.of(token.ledger) : undefined;
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
    if (requeued || this.#dealer.exact) this.#deal();
    this.#ownership.check();
    return answer.results;
  }

  keep(token: DeliveryToken): (() => void) | undefined {
    if (!(token instanceof InFlightRecord) || !token.held || this.#partitions.of(token.ledger) === undefined)
      return undefined;
    return token.ledger.kept.keep(token.record.offset);
  }

  extend(batch: readonly unknown[]): Promise<readonly boolean[]> {
    return Promise.resolve(batch.map((token) => token instanceof InFlightRecord && token.held));
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    if (this.#tick !== undefined) this.#parts.clock.cancel(this.#tick);
    await this.#ownership.close();
    this.#committer?.close();
    await this.#member?.close();
    await this.fetcher.close();
  }

  #deal(): void {
    this.#dealer.deal();
    this.fetcher.pump();
  }

  #failing(partition: OwnedPartition, failures: number): void {
    if (failures < TOLD_FROM_FAILURES || Math.log2(failures) % 1 !== 0) return;
    this.#health.stalled(commitError(partition, this.#group, failures), `${failures} commits`);
  }

  #checkLater(): void {
    this.#tick = this.#parts.clock.schedule(() => {
      this.#check();
      this.#checkLater();
    }, CHECK_MS);
  }

  #check(): void {
    this.fetcher.check();
    for (const partition of this.#partitions.all) rest(partition);
    this.#committer?.commit();
    this.#reviews?.check();
    const failing =
      this.fetcher.failing ||
      this.#ownership.failing ||
      this.#partitions.all.some(({ commitFailures }) => commitFailures > 0);
    this.#health.check(failing);
  }
}

/** Has committed what nobody waits for: what was passed over, and that little is in our reach while nothing comes. */
function rest(partition: OwnedPartition): void {
  const { ledger, reach, behind } = partition;
  const idle = reach.isIdle(ledger.handedOutTo);
  if (idle) reach.rest();
  if (idle || behind) partition.urgent = true;
}
