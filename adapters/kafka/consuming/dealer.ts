import type { ConsumerOptions, HeldRecord } from "./contract.ts";
import type { OwnedPartition } from "./owned-partition.ts";
import type { OwnedPartitions } from "./owned-partitions.ts";

/** What dealing needs beside the partitions. */
export interface DealerHost {
  deliver(records: readonly HeldRecord[]): void;
  /** A commit is waited for. */
  commit(): void;
}

/**
 * Hands records out: never more than the prefetch, fair over the partitions, and none before the reach that covers it is
 * committed. With a prefetch of one, what is handed out waits until nothing else is out, and until it is certain that nothing
 * else would be blamed if we died.
 */
export class Dealer {
  readonly #partitions: OwnedPartitions;
  readonly #perPartition: boolean;
  readonly #host: DealerHost;
  #prefetch: number;
  #turn = 0;
  #dealing = false;
  #again = false;

  constructor(
    partitions: OwnedPartitions,
    { prefetch, prefetchPer }: Pick<ConsumerOptions, "prefetch" | "prefetchPer">,
    host: DealerHost,
  ) {
    this.#partitions = partitions;
    this.#perPartition = prefetchPer === "partition";
    this.#prefetch = prefetch;
    this.#host = host;
  }

  get prefetch(): number {
    return this.#prefetch;
  }

  set prefetch(count: number) {
    this.#prefetch = count;
    this.deal();
  }

  /** Hands out what may be handed out by now, and asks for the commits that the rest waits for. */
  deal(): void {
    this.#again = true;
    if (this.#dealing) return;
    this.#dealing = true;
    while (this.#again) {
      this.#again = false;
      const batch: HeldRecord[] = [];
      this.#fill(batch);
      if (batch.length > 0) this.#host.deliver(batch);
    }
    this.#dealing = false;
  }

  /** Whether what is handed out next waits for what was finished, and not for the prefetch. */
  get exact(): boolean {
    return this.#prefetch <= 1;
  }

  /** Whether handing out waits for the next commit, or is about to. */
  get isPressing(): boolean {
    if (this.exact) return true;
    let unsettled = 0;
    for (const partition of this.#partitions.all) {
      if (partition.closing || partition.reach.isWanted) return true;
      unsettled = this.#perPartition ? Math.max(unsettled, partition.unsettled) : unsettled + partition.unsettled;
    }
    return unsettled * 2 >= this.#prefetch;
  }

  /** How far records may be handed out after the next commit. */
  reachOf(partition: OwnedPartition): number {
    const { closing, ledger, single, reach } = partition;
    // In the end nothing is in our hands, and what we leave unfinished was not our death.
    if (closing) return ledger.exactReach();
    if (this.exact) return Math.max(ledger.exactReach(), single === undefined ? 0 : single + 1);
    return ledger.handedOutTo + reach.ahead(this.#prefetch);
  }

  #fill(batch: HeldRecord[]): void {
    const open = this.#partitions.all.filter((partition) => partition.dealt && partition.ledger.next !== undefined);
    if (this.#prefetch === 0 || open.length === 0) return;
    if (this.#prefetch > 1) this.#dealMany(open, batch);
    else if (this.#perPartition) for (const partition of open) this.#dealExactly(partition, [], batch);
    else this.#dealOne(open, batch);
  }

  /** One of these, with nothing else out. */
  #dealOne(candidates: readonly OwnedPartition[], batch: HeldRecord[]): void {
    const { all } = this.#partitions;
    if (all.some(({ ledger }) => ledger.inHands > 0)) return;
    const chosen = candidates.find(isChosen) ?? candidates[this.#turn++ % candidates.length];
    if (chosen === undefined) return;
    const others = all.filter((other) => other !== chosen);
    for (const other of others) other.single = undefined;
    this.#dealExactly(chosen, others, batch);
  }

  /** The next of a partition, once it is all that these partitions would be blamed for. */
  #dealExactly(partition: OwnedPartition, others: readonly OwnedPartition[], batch: HeldRecord[]): void {
    const { ledger, reach } = partition;
    const next = ledger.next;
    if (next === undefined || ledger.inHands > 0) return;
    const inexact = others.filter((other) => other.ledger.begun && !other.suspended && !other.exact);
    for (const other of inexact) other.urgent = true;
    // The commit that confirms the one before goes as far as this one.
    const ready = ledger.unconfirmed === 0 && reach.allows(next.offset) && reach.endsBy(next.offset + 1);
    if (!ready) {
      partition.single = next.offset;
      partition.urgent = true;
    }
    if (!ready || inexact.length > 0) {
      this.#host.commit();
      return;
    }
    partition.single = undefined;
    this.#take(partition, batch);
  }

  #dealMany(open: readonly OwnedPartition[], batch: HeldRecord[]): void {
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

  #takeMany(partition: OwnedPartition, most: number, batch: HeldRecord[]): number {
    const { ledger, reach } = partition;
    for (let taken = 0; taken < most; taken++) {
      const next = ledger.next;
      if (next === undefined) return taken;
      if (!reach.allows(next.offset)) {
        reach.want();
        partition.urgent = true;
        this.#host.commit();
        return taken;
      }
      this.#take(partition, batch);
    }
    return Math.max(most, 0);
  }

  #take(partition: OwnedPartition, batch: HeldRecord[]): void {
    const entry = partition.ledger.take();
    if (entry === undefined) return;
    partition.reach.handedOut();
    batch.push(entry);
  }
}

function isChosen({ ledger, single }: OwnedPartition): boolean {
  return single !== undefined && single === ledger.next?.offset;
}
