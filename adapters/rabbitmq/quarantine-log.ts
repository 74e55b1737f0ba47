import { randomUUID } from "node:crypto";
import type { Channel, ConsumeMessage } from "amqplib";
import type { OutgoingMessage, QuarantineLog, SendReport } from "../../core/adapter.ts";
import { describeAddress, type QuarantineAddress } from "../../core/address.ts";
import { MessagingError } from "../../core/errors.ts";
import { answered, type Connection, openChannel, within } from "./connection.ts";
import { missing } from "./declared-resources.ts";
import { operationError } from "./errors.ts";
import { queueName } from "./names.ts";

/** What a log needs from its session. */
interface QuarantineLogDependencies {
  readonly requestTimeoutMs: number;
  /** The connection to read on. Throws `unreachable` while there is none. */
  link(): Connection;
  send(to: QuarantineAddress, batch: readonly OutgoingMessage[], report: SendReport): void;
  /** The queue is gone: recreates it if that is allowed. Never rejects. */
  restore(): Promise<unknown>;
}

/** Content types of records, and of the end marks that show readers how far to read. */
const RECORD = "text/plain";
const END_MARK = "application/vnd.anybroker.marker";
/** The largest record that is read, in bytes. Records of anybroker have some hundred. */
const MAX_RECORD_BYTES = 16 * 1024;
/** The most bytes of one read, including what is ignored. */
const MAX_BYTES = 64 * 1024 * 1024;
/** The largest prefetch in AMQP. On a quorum queue, 0 means 2,000, not unlimited. */
const PREFETCH = 65_535;

/**
 * A quarantine log in a queue. Records are never acked; they expire by their time to live.
 *
 * A reader publishes an end mark and consumes until the end mark comes; then it closes its channel. The queue has a single
 * active consumer, so one reader at a time gets all records. The end of a channel requeues them in order before the
 * next reader starts. A cancel would not, and on 3.10 a `nack` would put records behind the next reader's end mark.
 *
 * Every user with write permission can put anything on the queue. Other messages are ignored, and a read ends when
 * there are too many.
 */
export class RabbitMQQuarantineLog implements QuarantineLog {
  readonly #of: QuarantineAddress;
  readonly #queue: string;
  readonly #where: string;
  readonly #dependencies: QuarantineLogDependencies;
  #last: Promise<unknown> = Promise.resolve();
  /** The next read, while it has not started. */
  #next: Promise<readonly string[]> | undefined;

  constructor(of: QuarantineAddress, dependencies: QuarantineLogDependencies) {
    this.#of = of;
    this.#queue = queueName(of);
    this.#where = `the ${describeAddress(of)}`;
    this.#dependencies = dependencies;
  }

  append(record: string): Promise<void> {
    return within(
      this.#dependencies.requestTimeoutMs,
      `append to ${this.#where}`,
      this.#publish(randomUUID(), RECORD, record),
    );
  }

  read(): Promise<readonly string[]> {
    // A read that has started may miss what was confirmed since. Concurrent calls share the next one.
    this.#next ??= this.#readNext(performance.now() + this.#dependencies.requestTimeoutMs);
    return this.#next;
  }

  #readNext(deadline: number): Promise<readonly string[]> {
    const read = this.#last.then(() => {
      this.#next = undefined;
      return this.#readUntil(deadline);
    });
    this.#last = read.then(
      () => {},
      () => {},
    );
    return read;
  }

  async #readUntil(deadline: number): Promise<readonly string[]> {
    const ended = new AbortController();
    const left = Math.max(1, Math.ceil(deadline - performance.now()));
    try {
      return await within(left, `read ${this.#where}, after other readers`, this.#read(ended.signal));
    } finally {
      ended.abort();
    }
  }

  /** Reads on a new channel, which is closed when the read settles or is aborted. */
  async #read(signal: AbortSignal): Promise<readonly string[]> {
    const endMark = randomUUID();
    let channel: Channel | undefined;
    try {
      // If the reader crashes, the server expires the end mark by its time to live.
      await this.#publish(endMark, END_MARK, "", this.#dependencies.requestTimeoutMs);
      signal.throwIfAborted();
      const link = this.#dependencies.link();
      channel = await openChannel(link, this.#dependencies.requestTimeoutMs);
      signal.throwIfAborted();
      return await this.#takeUntil(endMark, link, channel, signal);
    } catch (error) {
      const refusal = operationError(error, `read ${this.#where}`, "try again");
      if (refusal.code === "not-found") void this.#dependencies.restore();
      throw refusal;
    } finally {
      // If the read failed, the server or the connection has closed it.
      channel?.close().catch(() => {});
    }
  }

  #takeUntil(endMark: string, link: Connection, channel: Channel, signal: AbortSignal): Promise<readonly string[]> {
    const { promise, resolve, reject } = Promise.withResolvers<readonly string[]>();
    const records: string[] = [];
    let taken = 0;
    let bytes = 0;
    let isOver = false;
    const end = (settle: () => void): void => {
      // Later deliveries, until the channel is closed, do not belong to this read.
      isOver = true;
      settle();
      records.length = 0;
    };
    const take = (message: ConsumeMessage | null): void => {
      if (isOver) return;
      if (message === null) {
        reject(missing(`queue ${this.#queue}`));
        return;
      }
      const { properties, content } = message;
      taken++;
      bytes += content.length;
      if (properties.messageId === endMark) {
        channel.ack(message);
        end(() => resolve([...records]));
      } else if (taken === PREFETCH) {
        end(() => reject(tooMany(this.#where)));
      } else if (bytes > MAX_BYTES) {
        end(() => reject(tooMuch(this.#where, this.#queue)));
      } else if (properties.contentType === RECORD && content.length <= MAX_RECORD_BYTES) {
        records.push(content.toString());
      }
    };
    let cause: unknown;
    channel.on("error", (error) => {
      cause = link.redactor.error(error);
    });
    channel.on("close", () => reject(cause ?? new Error("its channel or connection was closed")));
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    const begun = Promise.all([channel.prefetch(PREFETCH, false), channel.consume(this.#queue, take)]);
    answered(link, this.#dependencies.requestTimeoutMs, `consume from queue "${this.#queue}"`, begun).catch(reject);
    return promise;
  }

  /** All messages have one priority, because an end mark must not overtake a record. */
  #publish(id: string, contentType: string, text: string, ttlMs?: number): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const body = Buffer.from(text);
    const message: OutgoingMessage = {
      id,
      key: undefined,
      routingKey: undefined,
      headers: {},
      body,
      contentType,
      size: body.length,
      priority: 0,
      delayMs: 0,
      ttlMs,
    };
    this.#dependencies.send(this.#of, [message], (_index, result) => {
      if (result.status === "confirmed") resolve();
      else {
        const reason = result.status === "rejected" ? result.error : result.cause;
        reject(operationError(reason, `write to ${this.#where}`, "try again"));
      }
    });
    return promise;
  }
}

function tooMany(where: string): MessagingError {
  return new MessagingError(
    "overloaded",
    `${where} has more than the ${PREFETCH} records that can be read at once; records expire a day after they were written`,
  );
}

function tooMuch(where: string, queue: string): MessagingError {
  return new MessagingError(
    "overloaded",
    `${where} has more than the ${MAX_BYTES / 1024 / 1024} MiB that are read at once: other programs write to it. Check who may, and purge the queue "${queue}"; its messages expire after a day`,
  );
}
