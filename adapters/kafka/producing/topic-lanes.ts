import type { Timer } from "../../../core/clock.ts";
import type { TopicId, TopicMetadata } from "../port.ts";
import { Lane } from "./lane.ts";
import { Dealer, partitionOfKey } from "./partitioner.ts";
import type { PendingRecord } from "./pending-record.ts";
import type { ProducerSettings } from "./settings.ts";

/** So many records without a key go to one partition together; more of one call are spread. */
const RUN = 100;

/** The partitions of a topic, and what waits until they are known. */
export class TopicLanes {
  readonly topic: string;
  readonly lanes = new Map<number, Lane>();
  /** Since when the cluster says that there is no such topic, in monotonic milliseconds. */
  missingSince: number | undefined;
  /** Runs while something waits. */
  timer: Timer | undefined;
  readonly #mostBytes: number;
  readonly #dealer: Dealer;
  /** Which topic it is that has the name; empty until it is known. */
  #topicId: TopicId = "";
  /** By partition; -1 where there is no leader. Undefined until it is known. */
  #leaders: readonly number[] | undefined;
  #waiting: PendingRecord[] = [];

  constructor(topic: string, { maxBatchBytes, random }: ProducerSettings) {
    this.topic = topic;
    this.#mostBytes = maxBatchBytes;
    this.#dealer = new Dealer(random);
  }

  /** Whether there are records whose partition is not known. */
  get hasWaiting(): boolean {
    return this.#waiting.length > 0;
  }

  /** Whether anything is to be sent. */
  get isBusy(): boolean {
    return this.hasWaiting || [...this.lanes.values()].some((lane) => !lane.isIdle);
  }

  takeWaiting(): readonly PendingRecord[] {
    const waiting = this.#waiting;
    this.#waiting = [];
    return waiting;
  }

  /** Takes the waiting records whose time is over. */
  takeOverdue(now: number): readonly PendingRecord[] {
    const overdue = this.#waiting.filter(({ deadline }) => deadline <= now);
    if (overdue.length > 0) this.#waiting = this.#waiting.filter(({ deadline }) => deadline > now);
    return overdue;
  }

  leaderOf(partition: number): number | undefined {
    const leader = this.#leaders?.[partition];
    return leader === undefined || leader < 0 ? undefined : leader;
  }

  get topicId(): TopicId {
    return this.#topicId;
  }

  /** Returns whether it is another topic than before. */
  learn({ id, partitions }: TopicMetadata): boolean {
    const isAnother = this.#topicId !== "" && id !== "" && id !== this.#topicId;
    if (id !== "") this.#topicId = id;
    const leaders: number[] = [];
    for (const { partition, leader } of partitions) leaders[partition] = leader;
    this.#leaders = Array.from(leaders, (leader) => leader ?? -1);
    return isAnother;
  }

  /** Gives records to their partitions, in order; returns the lanes that got some. The rest waits. */
  place(records: readonly PendingRecord[]): ReadonlySet<Lane> {
    const lanes = new Set<Lane>();
    const partitions = this.#leaders?.length ?? 0;
    let dealt = 0;
    let dealtTo = 0;
    for (const pending of records) {
      const { key, partition } = pending.record;
      let place = partition ?? 0;
      if (partition === undefined && partitions > 0) {
        if (key !== undefined) place = partitionOfKey(key, partitions);
        else place = dealtTo = dealt++ % RUN === 0 ? this.#dealer.next(partitions, this.#fitness) : dealtTo;
      }
      if (place >= partitions) {
        this.#waiting.push(pending);
        continue;
      }
      const lane = this.#lane(place);
      lane.push(pending);
      lanes.add(lane);
    }
    return lanes;
  }

  #lane(partition: number): Lane {
    const known = this.lanes.get(partition);
    if (known !== undefined) return known;
    const lane = new Lane(this.topic, partition, this.#mostBytes);
    this.lanes.set(partition, lane);
    return lane;
  }

  readonly #fitness = (partition: number): number => {
    if (this.leaderOf(partition) === undefined) return 0;
    const lane = this.lanes.get(partition);
    if (lane === undefined || lane.isIdle) return 2;
    return lane.attempts > 0 ? 0 : 1;
  };
}
