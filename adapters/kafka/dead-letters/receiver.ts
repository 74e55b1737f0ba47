import type { DeliveryToken, Receiver, Settlement, SettleResult } from "../../../core/adapter.ts";
import type { Timer } from "../../../core/clock.ts";
import type { MessagingError } from "../../../core/errors.ts";
import type { RecordSink } from "../consuming/contract.ts";
import type { GroupMember } from "../group/contract.ts";
import { firstAssignment } from "../group/first-assignment.ts";
import type { TopicPartition } from "../port.ts";
import type { DeadLettersHost } from "./contract.ts";
import { PARTITION } from "./dead-letter-record.ts";
import { ReadingSession } from "./reading-session.ts";
import { Remover } from "./remover.ts";

const CLOSE_MS = 5_000;

/**
 * Takes dead letters, in their order. One receiver at a time has them; others wait and take over. To acknowledge removes an
 * entry: it is gone once that is confirmed. What is requeued, or in the hands of a receiver that ends, stands as before.
 * Tokens are the held records.
 *
 * Rejects with `not-found` if there is no such topic, with `conflict` if others have its group, and with why it cannot be
 * read.
 */
export async function receiveDeadLetters(host: DeadLettersHost, prefetch: number, sink: RecordSink): Promise<Receiver> {
  const log = host.openLog();
  try {
    await log.first();
  } finally {
    await log.close();
  }
  const receiver = new DeadLettersReceiver(host, prefetch, sink);
  try {
    await receiver.joined();
  } catch (error) {
    await receiver.close();
    throw error;
  }
  return receiver;
}

class DeadLettersReceiver implements Receiver {
  readonly leaseMs = undefined;
  readonly #host: DeadLettersHost;
  readonly #sink: RecordSink;
  readonly #member: GroupMember;
  #prefetch: number;
  #session: ReadingSession | undefined;
  #closing: Promise<void> | undefined;

  constructor(host: DeadLettersHost, prefetch: number, sink: RecordSink) {
    this.#host = host;
    this.#prefetch = prefetch;
    this.#sink = sink;
    this.#member = host.join({
      assigned: (partitions) => {
        if (has(partitions) && this.#closing === undefined) this.#begin();
      },
      revoke: (partitions) => (has(partitions) ? this.#handOver() : Promise.resolve()),
      lost: (partitions, cause) => {
        if (has(partitions)) this.#lose(cause);
      },
      failed: (cause) => sink.stalled(cause),
    });
  }

  /** Resolves when the group has taken it in, or takes its time over it. */
  joined(): Promise<void> {
    return firstAssignment(this.#host.clock, this.#member);
  }

  prefetch(count: number): void {
    this.#prefetch = count;
    this.#session?.prefetch(count);
  }

  settle(batch: readonly Settlement[]): Promise<readonly SettleResult[]> {
    return this.#session?.settle(batch) ?? Promise.resolve(batch.map(() => "fenced" as const));
  }

  extend(batch: readonly DeliveryToken[]): Promise<readonly boolean[]> {
    return Promise.resolve(batch.map((token) => this.#session?.holds(token) ?? false));
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const { clock } = this.#host;
    const session = this.#session;
    if (session !== undefined) {
      let timer: Timer | undefined;
      const tooLong = new Promise<void>((resolve) => {
        timer = clock.schedule(resolve, CLOSE_MS);
      });
      await Promise.race([session.stop(), tooLong]);
      if (timer !== undefined) clock.cancel(timer);
    }
    const last = this.#session;
    last?.end();
    this.#session = undefined;
    await this.#member.close();
    await last?.closed();
  }

  #begin(): void {
    this.#session?.end();
    const { producer, clock, random, wanted } = this.#host;
    const failed = (cause: MessagingError): void => this.#sink.stalled(cause);
    const log = this.#host.openLog();
    const session = new ReadingSession(
      {
        log,
        bodies: this.#host.openLog(),
        remover: new Remover({ topic: log.topic, producer, clock, random, failed }),
        clock,
        random,
        sink: this.#sink,
        ...(wanted === undefined ? {} : { wanted }),
        startOver: (cause) => {
          this.#sink.notice(cause);
          this.#lose(cause);
          if (this.#closing === undefined) this.#begin();
        },
      },
      this.#prefetch,
    );
    this.#session = session;
    session.start();
  }

  async #handOver(): Promise<void> {
    const session = this.#session;
    await session?.drain();
    if (this.#session !== session) return;
    session?.end();
    this.#session = undefined;
  }

  #lose(cause: MessagingError): void {
    const held = this.#session?.end() ?? [];
    this.#session = undefined;
    if (held.length > 0) this.#sink.lost(held, cause);
  }
}

function has(partitions: readonly TopicPartition[]): boolean {
  return partitions.some(({ partition }) => partition === PARTITION);
}
