import { randomUUID } from "node:crypto";
import type { Channel, ConsumeMessage } from "amqplib";
import type { OutgoingMessage, QuarantineLog, SendReport } from "../../core/adapter.ts";
import { describeAddress, type QuarantineAddress } from "../../core/address.ts";
import { MessagingError } from "../../core/errors.ts";
import { answered, type Connection, openChannel, within } from "./connection.ts";
import { missing } from "./declared-resources.ts";
import { operationError } from "./errors.ts";
import { queueName } from "./names.ts";

/** What a log needs of the adapter around it. */
interface LogHost {
  readonly requestTimeoutMs: number;
  /** The connection to read on. Throws `unreachable` while there is none. */
  link(): Connection;
  send(to: QuarantineAddress, batch: readonly OutgoingMessage[], report: SendReport): void;
  /** The queue is gone: makes it again if declaring is allowed. Never rejects. */
  restore(): Promise<unknown>;
}

/** Content types: a record, and what a reader puts in to know how far it has to read. */
const RECORD = "text/plain";
const MARKER = "application/vnd.anybroker.marker";
/** The longest record that is read, in bytes; those of anybroker have some hundred. */
const LONGEST_RECORD = 16 * 1024;
/** The most bytes of a read, of what is dropped as well. */
const MOST_BYTES = 64 * 1024 * 1024;
/** The widest that AMQP has. 0, which is no limit elsewhere, is 2,000 for a quorum queue. */
const PREFETCH = 65_535;

/**
 * A quarantine log as a queue: records leave it by its time to live, and are never acknowledged. A reader publishes a
 * marker and takes everything until that comes; then its channel is closed. The queue has a single active consumer, so
 * that one reader at a time has all of it, and the end of a channel, whoever ends it, gives back all in order before the
 * next reader has its turn. A cancel would not, and a `nack` would put records behind the next reader's marker (3.10).
 *
 * Whoever may write to the queue can put anything there. What is no record is dropped as it comes, and a read ends when it
 * becomes too much.
 */
export class QueueLog implements QuarantineLog {
  readonly #of: QuarantineAddress;
  readonly #queue: string;
  readonly #where: string;
  readonly #host: LogHost;
  #last: Promise<unknown> = Promise.resolve();
  /** The read that has not begun. */
  #next: Promise<readonly string[]> | undefined;

  constructor(of: QuarantineAddress, host: LogHost) {
    this.#of = of;
    this.#queue = queueName(of);
    this.#where = `the ${describeAddress(of)}`;
    this.#host = host;
  }

  append(record: string): Promise<void> {
    return within(this.#host.requestTimeoutMs, `append to ${this.#where}`, this.#publish(randomUUID(), RECORD, record));
  }

  read(): Promise<readonly string[]> {
    // One that has begun may be past what was confirmed since; all who come meanwhile share the one after it.
    this.#next ??= this.#readNext(performance.now() + this.#host.requestTimeoutMs);
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
      return await within(left, `read ${this.#where}, after whoever reads it now`, this.#read(ended.signal));
    } finally {
      ended.abort();
    }
  }

  /** On a channel of its own, which is closed when it settles or is aborted. */
  async #read(signal: AbortSignal): Promise<readonly string[]> {
    const marker = randomUUID();
    let channel: Channel | undefined;
    try {
      // One that nobody waits for any more, for its reader is gone, is removed by the server, on its own clock.
      await this.#publish(marker, MARKER, "", this.#host.requestTimeoutMs);
      signal.throwIfAborted();
      const link = this.#host.link();
      channel = await openChannel(link, this.#host.requestTimeoutMs);
      signal.throwIfAborted();
      return await this.#takeUntil(marker, link, channel, signal);
    } catch (error) {
      const refusal = operationError(error, `read ${this.#where}`, "try again");
      if (refusal.code === "not-found") void this.#host.restore();
      throw refusal;
    } finally {
      // The server or the connection closed it already if the read failed.
      channel?.close().catch(() => {});
    }
  }

  #takeUntil(marker: string, link: Connection, channel: Channel, signal: AbortSignal): Promise<readonly string[]> {
    const { promise, resolve, reject } = Promise.withResolvers<readonly string[]>();
    const records: string[] = [];
    let taken = 0;
    let bytes = 0;
    let isOver = false;
    const end = (settle: () => void): void => {
      // What comes until the channel is closed is not of this read.
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
      if (properties.messageId === marker) {
        channel.ack(message);
        end(() => resolve([...records]));
      } else if (taken === PREFETCH) {
        end(() => reject(tooMany(this.#where)));
      } else if (bytes > MOST_BYTES) {
        end(() => reject(tooMuch(this.#where, this.#queue)));
      } else if (properties.contentType === RECORD && content.length <= LONGEST_RECORD) {
        records.push(content.toString());
      }
    };
    let cause: unknown;
    channel.on("error", (error) => {
      cause = link.words.error(error);
    });
    channel.on("close", () => reject(cause ?? new Error("its channel or connection was closed")));
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    const begun = Promise.all([channel.prefetch(PREFETCH, false), channel.consume(this.#queue, take)]);
    answered(link, this.#host.requestTimeoutMs, `consume from queue "${this.#queue}"`, begun).catch(reject);
    return promise;
  }

  /** All with one priority, or a marker might overtake a record. */
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
    this.#host.send(this.#of, [message], (_index, result) => {
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
    `${where} holds more than the ${PREFETCH} records that can be read at a time; the oldest leave it a day after they were written`,
  );
}

function tooMuch(where: string, queue: string): MessagingError {
  return new MessagingError(
    "overloaded",
    `${where} holds more than the ${MOST_BYTES / 1024 / 1024} MiB that are read at a time: others than anybroker write to it. See who may, and purge the queue "${queue}"; what is on it leaves it a day after it was written`,
  );
}
