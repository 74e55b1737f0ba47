import {
  ChangeMessageVisibilityBatchCommand,
  type Message,
  ReceiveMessageCommand,
  SendMessageCommand,
} from "@aws-sdk/client-sqs";
import { QUARANTINE_KEPT_MS, type QuarantineLog } from "../../core/adapter.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import type { Clients } from "./connection.ts";
import { asMessagingError, isMissing, isUnanswered } from "./errors.ts";
import { MAX_ENTRIES } from "./publisher.ts";

/** How long the messages of a crashed reader stay hidden. A running reader makes them visible earlier. */
const HIDDEN_SECONDS = 5;
/** A poll without a wait asks only some of SQS's servers, and may miss messages on others. */
const WAIT_SECONDS = 1;
/** The most messages of one read. */
const MAX_READ = 1_000;
const MAX_REMEMBERED = 10_000;

/** What a quarantine log needs of its queue. */
interface QuarantineLogDependencies {
  /** The log's name in error messages. */
  readonly where: string;
  readonly clients: Pick<Clients, "sqs" | "polling" | "control">;
  /** Milliseconds for an append, and approximately for a read. */
  readonly requestTimeoutMs: number;
  /** The URL of the queue. */
  find(): Promise<string>;
  /** The queue is gone. Resolves with why; undefined if it exists again. */
  missing(): Promise<MessagingError | undefined>;
  unanswered(cause: unknown): void;
}

interface Remembered {
  readonly record: string;
  /** Milliseconds since 1970. */
  readonly until: number;
}

/**
 * A quarantine log in a queue. Nothing deletes its messages; they expire by the retention period. SQS hides from a
 * reader the messages that another reader has received, so each log remembers all records and reads new ones beside
 * them.
 */
export class SqsQuarantineLog implements QuarantineLog {
  readonly #dependencies: QuarantineLogDependencies;
  /** By SQS's message ids. */
  readonly #remembered = new Map<string, Remembered>();
  readonly #ended = new AbortController();
  #reading: Promise<readonly string[]> | undefined;
  #next: Promise<readonly string[]> | undefined;

  constructor(dependencies: QuarantineLogDependencies) {
    this.#dependencies = dependencies;
  }

  async append(record: string): Promise<void> {
    const { clients, requestTimeoutMs } = this.#dependencies;
    const command = { MessageBody: encodeRecord(record) };
    const { MessageId = "" } = await this.#request("appending to", (QueueUrl) => {
      const abortSignal = AbortSignal.any([this.#ended.signal, AbortSignal.timeout(requestTimeoutMs)]);
      // The SDK retries within that time: a record may be stored twice.
      return clients.control.sqs.send(new SendMessageCommand({ QueueUrl, ...command }), { abortSignal });
    });
    this.#remember(MessageId, record, Date.now());
  }

  read(): Promise<readonly string[]> {
    if (this.#reading === undefined) return this.#start();
    // A read in progress may miss what was appended since. Concurrent calls share the next one.
    const afterwards = () => {
      this.#next = undefined;
      return this.#reading ?? this.#start();
    };
    this.#next ??= this.#reading.then(afterwards, afterwards);
    return this.#next;
  }

  /** Ends all requests, but waits for the current poll: an abandoned one would hide its messages from other readers. */
  async close(): Promise<void> {
    this.#ended.abort();
    await Promise.allSettled([this.#reading, this.#next]);
  }

  #start(): Promise<readonly string[]> {
    this.#reading = this.#request("reading", (url) => this.#take(url)).finally(() => {
      this.#reading = undefined;
    });
    return this.#reading;
  }

  /**
   * Receives all messages, then makes them visible again. Rejects if there may be more that was never read: without the
   * end of a note, its writer would count as crashed.
   */
  async #take(QueueUrl: string): Promise<readonly string[]> {
    const end = performance.now() + this.#dependencies.requestTimeoutMs;
    const taken: Message[] = [];
    let [came, added] = [1, 0];
    try {
      while (came > 0 && taken.length < MAX_READ && performance.now() < end) {
        if (this.#ended.signal.aborted) throw new MessagingError("closed", "the SQS adapter was closed");
        const { Messages = [] } = await this.#dependencies.clients.polling.send(
          new ReceiveMessageCommand({
            QueueUrl,
            MaxNumberOfMessages: MAX_ENTRIES,
            VisibilityTimeout: HIDDEN_SECONDS,
            WaitTimeSeconds: WAIT_SECONDS,
            MessageSystemAttributeNames: ["SentTimestamp"],
          }),
        );
        came = Messages.length;
        taken.push(...Messages);
      }
    } finally {
      added = this.#rememberAll(taken);
      await this.#makeVisible(QueueUrl, taken);
    }
    if (came > 0 && added > 0) throw tooMany(this.#dependencies.where, taken.length);
    return this.#records();
  }

  /** Makes messages visible to other readers. Without it they become visible by themselves. */
  async #makeVisible(QueueUrl: string, taken: readonly Message[]): Promise<void> {
    try {
      for (let at = 0; at < taken.length; at += MAX_ENTRIES) {
        const Entries = taken
          .slice(at, at + MAX_ENTRIES)
          .map(({ ReceiptHandle }, index) => ({ Id: String(index), ReceiptHandle, VisibilityTimeout: 0 }));
        await this.#dependencies.clients.sqs.send(new ChangeMessageVisibilityBatchCommand({ QueueUrl, Entries }));
      }
    } catch {
      // The other batches would fail in the same way.
    }
  }

  /** Returns how many records were new. */
  #rememberAll(taken: readonly Message[]): number {
    let added = 0;
    for (const { MessageId = "", Body = "", Attributes } of taken) {
      const record = decodeRecord(Body);
      if (record === undefined) continue;
      if (!this.#remembered.has(MessageId)) added++;
      this.#remember(MessageId, record, Number(Attributes?.SentTimestamp ?? Date.now()));
    }
    return added;
  }

  #remember(id: string, record: string, sentAt: number): void {
    if (!this.#remembered.has(id)) this.#remembered.set(id, { record, until: sentAt + QUARANTINE_KEPT_MS });
    if (this.#remembered.size <= MAX_REMEMBERED) return;
    const [oldest = ""] = this.#remembered.keys();
    this.#remembered.delete(oldest);
  }

  #records(): readonly string[] {
    const now = Date.now();
    for (const [id, { until }] of this.#remembered) if (until <= now) this.#remembered.delete(id);
    return [...this.#remembered.values()].map(({ record }) => record);
  }

  /** Sends a request; once more if the queue was gone and exists again. */
  async #request<Result>(what: string, send: (url: string) => Promise<Result>): Promise<Result> {
    const { where, find, missing, unanswered } = this.#dependencies;
    try {
      try {
        return await send(await find());
      } catch (error) {
        const gone = isMissing(error) || isMessagingError(error, "not-found");
        if (!gone || (await missing()) !== undefined) throw error;
        return await send(await find());
      }
    } catch (error) {
      if (!isMessagingError(error) && isUnanswered(error)) unanswered(error);
      throw asMessagingError(`${what} the ${where}`, error);
    }
  }
}

function tooMany(where: string, count: number): MessagingError {
  return new MessagingError(
    "overloaded",
    `the ${where} has more than the ${count} records of one read, and some are not read yet; read again to get others`,
  );
}

/** As JSON in ASCII: SQS refuses some characters, and emulators refuse others. */
function encodeRecord(record: string): string {
  const escaped = (character: string) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return JSON.stringify(record).replaceAll(/[^ -~]/g, escaped);
}

/** Undefined for foreign messages. */
function decodeRecord(body: string): string | undefined {
  try {
    const record: unknown = JSON.parse(body);
    return typeof record === "string" ? record : undefined;
  } catch {
    return undefined;
  }
}
