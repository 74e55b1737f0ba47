import { isMessagingError, MessagingError } from "../../../core/errors.ts";
import type { Cluster } from "../cluster.ts";
import { trimmableTo } from "../consuming/progress.ts";
import type { PartitionOffset, TopicPartition } from "../port.ts";

/** How often to trim. */
export interface TrimTimes {
  /** Milliseconds that handled records stay at most. Default 60,000. */
  readonly everyMs?: number;
  /** So many handled records of one partition are not waited with. Default 10,000. */
  readonly many?: number;
}

const EVERY_MS = 60_000;
const MANY = 10_000;
/** However many are handled. */
const LEAST_PAUSE_MS = 1_000;

interface Grown extends TopicPartition {
  readonly group: string;
  /** Where it was trimmed last, or was when it was first heard of. */
  readonly from: number;
}

/**
 * Deletes what is handled from the topics that hold work: everything before the offsets committed, and before the records
 * that dead letters refer to. Each process does so for the partitions that it consumes; nobody waits for it, and it only
 * ever lags behind.
 */
export class Trimmer {
  readonly #cluster: Cluster;
  readonly #notice: (error: MessagingError) => void;
  readonly #everyMs: number;
  readonly #many: number;
  /** By partition, where something was handled since. */
  readonly #grown = new Map<string, Grown>();
  /** Topics where the right is missing. */
  readonly #refused = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  #trimmedAt = performance.now();
  #isHurried = false;
  #isTrimming = false;
  #isClosed = false;

  constructor(cluster: Cluster, notice: (error: MessagingError) => void, times: TrimTimes = {}) {
    this.#cluster = cluster;
    this.#notice = notice;
    this.#everyMs = times.everyMs ?? EVERY_MS;
    this.#many = times.many ?? MANY;
  }

  /** Everything before this offset is handled and committed by the group. */
  progressed(group: string, { topic, partition, offset }: PartitionOffset): void {
    if (this.#isClosed || this.#refused.has(topic)) return;
    const place = `${topic} ${partition}`;
    const grown = this.#grown.get(place);
    if (grown === undefined) {
      this.#grown.set(place, { topic, partition, group, from: offset });
      this.#schedule(this.#everyMs);
    } else if (!this.#isHurried && offset - grown.from >= this.#many) {
      this.#isHurried = true;
      this.#schedule(Math.max(0, this.#trimmedAt + LEAST_PAUSE_MS - performance.now()));
    }
  }

  /** Ends it; a deletion under way is left to itself. A second call does nothing. */
  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
  }

  #schedule(ms: number): void {
    if (this.#isTrimming || this.#isClosed || (this.#timer !== undefined && !this.#isHurried)) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => void this.#trimAll(), ms).unref();
  }

  async #trimAll(): Promise<void> {
    this.#timer = undefined;
    this.#isTrimming = true;
    this.#isHurried = false;
    const byGroup = Map.groupBy(this.#grown.values(), ({ group }) => group);
    this.#grown.clear();
    for (const [group, places] of byGroup) {
      for (const [topic, some] of Map.groupBy(places, (place) => place.topic)) await this.#trim(group, topic, some);
    }
    this.#trimmedAt = performance.now();
    this.#isTrimming = false;
    if (this.#grown.size > 0) this.#schedule(this.#everyMs);
  }

  async #trim(group: string, topic: string, places: readonly TopicPartition[]): Promise<void> {
    try {
      // Asked anew: of a topic that was deleted and made again, nothing that was handled before counts.
      const committed = await this.#cluster.committed(group, places);
      const handled = committed
        .map(({ offset, metadata, ...place }) => ({ ...place, offset: trimmableTo(offset, metadata) }))
        .filter(({ offset }) => offset > 0);
      if (handled.length > 0 && !this.#isClosed) await this.#cluster.deleteRecords(handled);
    } catch (error) {
      // Anything else may go well when more is handled.
      if (!this.#isClosed && isMessagingError(error, "unauthorized")) this.#giveUp(topic, error);
    }
  }

  #giveUp(topic: string, cause: MessagingError): void {
    this.#refused.add(topic);
    this.#notice(
      new MessagingError(
        "unauthorized",
        `what is handled stays in topic "${topic}" on Kafka, for it may not be deleted: grant the right to delete records there, or set the option trim to false and delete them otherwise`,
        { cause },
      ),
    );
  }
}
