import type { QuarantineLog, SendResult } from "../../core/adapter.ts";
import type { Clock } from "../../core/clock.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import type { Log } from "./dead-letters/partition-log.ts";
import { PARTITION } from "./dead-letters/records.ts";
import { readThrough } from "./dead-letters/references.ts";
import type { TopicPartition } from "./port.ts";
import type { Producer } from "./producing/producer.ts";

interface QuarantineLogDependencies {
  readonly producer: Producer;
  readonly clock: Clock;
  /** Milliseconds to wait for the confirmation of a record. */
  readonly requestTimeoutMs: number;
  openLog(at: TopicPartition): Log;
  /** Recreates the missing topic if that is allowed. Resolves with whether it exists. Never rejects. */
  restore(): Promise<boolean>;
  /** When it aborts, a read under way rejects with `closed`. */
  readonly ended: AbortSignal;
}

/** A quarantine log in a topic with one partition, read from end to end without a group. */
export class KafkaQuarantineLog implements QuarantineLog {
  readonly #at: TopicPartition;
  readonly #dependencies: QuarantineLogDependencies;

  constructor(topic: string, dependencies: QuarantineLogDependencies) {
    this.#at = { topic, partition: PARTITION };
    this.#dependencies = dependencies;
  }

  async append(record: string): Promise<void> {
    const value = Buffer.from(record);
    let result = await this.#produce(value);
    if (isGone(result) && (await this.#dependencies.restore())) result = await this.#produce(value);
    if (result.status === "rejected") throw result.error;
    if (result.status === "unknown") throw unconfirmed(this.#at, result.cause);
  }

  async read(): Promise<readonly string[]> {
    try {
      return await this.#readThrough();
    } catch (error) {
      // Kafka may delete old records during the read, and a missing topic may be recreated.
      const again = isMessagingError(error, "not-found")
        ? await this.#dependencies.restore()
        : isMessagingError(error, "conflict");
      if (!again) throw error;
    }
    return this.#readThrough();
  }

  #produce(value: Uint8Array): Promise<SendResult> {
    const { topic, partition } = this.#at;
    const { producer, clock, requestTimeoutMs } = this.#dependencies;
    const record = { key: undefined, value, headers: [], partition };
    return new Promise((resolve) => {
      // The producer keeps trying for longer, as with messages.
      const timer = clock.schedule(() => resolve(overdue(requestTimeoutMs)), requestTimeoutMs);
      producer.send(topic, [record], (_, result) => {
        clock.cancel(timer);
        resolve(result);
      });
    });
  }

  async #readThrough(): Promise<readonly string[]> {
    const { ended, openLog } = this.#dependencies;
    const records: string[] = [];
    const log = openLog(this.#at);
    const close = (): void => void log.close();
    ended.addEventListener("abort", close);
    try {
      const unread = await readThrough(log, ({ value }) => {
        if (value !== undefined) records.push(value.toString());
      });
      // Another sender's unreadable batch hides no record of ours, an open transaction may.
      if (isMessagingError(unread, "unreachable")) throw unread;
    } finally {
      ended.removeEventListener("abort", close);
      await log.close();
    }
    return records;
  }
}

function isGone(result: SendResult): boolean {
  return result.status === "rejected" && isMessagingError(result.error, "not-found");
}

function overdue(ms: number): SendResult {
  return { status: "unknown", cause: new MessagingError("timeout", `Kafka did not answer within ${ms} ms`) };
}

function unconfirmed({ topic }: TopicPartition, cause: unknown): MessagingError {
  const text = `a record for "${topic}" was not confirmed by Kafka, and may be there nevertheless; see the cause, and append it again`;
  return new MessagingError(isMessagingError(cause) ? cause.code : "unreachable", text, { cause });
}
