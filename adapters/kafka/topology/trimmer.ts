import { isMessagingError, MessagingError } from "../../../core/errors.ts";
import type { Cluster } from "../cluster.ts";
import type { PartitionOffset, TopicPartition } from "../port.ts";

/** A topic that holds work, and the group that handles it. */
export interface Trimmable {
  readonly topic: string;
  readonly group: string;
}

const EVERY_MS = 60_000;

/**
 * Deletes what is handled from the topics that hold work: everything before the offsets committed. Each process does so
 * for what it consumes from, about once a minute; nobody waits for it, and it only ever lags behind.
 */
export class Trimmer {
  readonly #cluster: Cluster;
  readonly #notice: (error: MessagingError) => void;
  readonly #everyMs: number;
  /** With the number of those who asked. */
  readonly #watched = new Map<string, { readonly of: Trimmable; count: number }>();
  /** Up to where each partition was trimmed by this process. */
  readonly #trimmed = new Map<string, number>();
  /** Where the right is missing. */
  readonly #refused = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(cluster: Cluster, notice: (error: MessagingError) => void, everyMs = EVERY_MS) {
    this.#cluster = cluster;
    this.#notice = notice;
    this.#everyMs = everyMs;
  }

  /** Trims it from now on, until the function that it returns is called as often as this. */
  watch(of: Trimmable): () => void {
    const watched = this.#watched.get(of.topic) ?? { of, count: 0 };
    watched.count++;
    this.#watched.set(of.topic, watched);
    this.#schedule();
    return () => {
      if (--watched.count === 0) this.#watched.delete(of.topic);
    };
  }

  /** Ends it; a deletion under way is left to itself. A second call does nothing. */
  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  #schedule(): void {
    if (this.#timer !== undefined || this.#closed) return;
    // Between half and all of it, so that many processes do not ask in step.
    this.#timer = setTimeout(() => void this.#run(), this.#everyMs * (0.5 + Math.random() / 2)).unref();
  }

  async #run(): Promise<void> {
    for (const { of } of [...this.#watched.values()]) {
      if (this.#closed || this.#refused.has(of.topic)) continue;
      try {
        await this.#trim(of);
      } catch (error) {
        if (this.#closed) return;
        if (isMessagingError(error, "unauthorized")) this.#giveUp(of, error);
        // Anything else may go well next time.
      }
    }
    this.#timer = undefined;
    if (this.#watched.size > 0) this.#schedule();
  }

  async #trim({ topic, group }: Trimmable): Promise<void> {
    const [metadata] = await this.#cluster.topics([topic]);
    const partitions = (metadata?.partitions ?? []).map(({ partition }): TopicPartition => ({ topic, partition }));
    // Asked anew each time: of a topic that was deleted and made again, nothing that was committed before counts.
    const committed = await this.#cluster.committed(group, partitions);
    const finished = committed.flatMap(({ partition, offset }): PartitionOffset[] => {
      const isNew = offset > 0 && offset !== this.#trimmed.get(`${topic} ${partition}`);
      return isNew ? [{ topic, partition, offset }] : [];
    });
    if (finished.length === 0 || this.#closed) return;
    await this.#cluster.deleteRecords(finished);
    for (const { partition, offset } of finished) this.#trimmed.set(`${topic} ${partition}`, offset);
  }

  #giveUp({ topic }: Trimmable, cause: MessagingError): void {
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
