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
import { MOST_ENTRIES } from "./publisher.ts";

/** How long SQS hides from other readers what one that died had in its hands. One that lives gives it back earlier. */
const HIDDEN_SECONDS = 5;
/** A poll that does not wait asks some of SQS's servers only, and may miss what stands on the others. */
const WAIT_SECONDS = 1;
/** The most messages that one read takes. */
const MOST_READ = 1_000;
const MOST_REMEMBERED = 10_000;

/** What a quarantine log needs of its queue. */
interface QuarantineLogParts {
  /** Names it in messages to people. */
  readonly where: string;
  readonly clients: Pick<Clients, "sqs" | "polling" | "control">;
  /** Milliseconds that an append may take, and about how long a read may. */
  readonly requestTimeoutMs: number;
  /** The URL of the queue. */
  find(): Promise<string>;
  /** The queue is gone. Resolves with whether it stands again. */
  missing(): Promise<boolean>;
  unanswered(cause: unknown): void;
}

interface Remembered {
  readonly record: string;
  /** Milliseconds since 1970. */
  readonly until: number;
}

/**
 * A quarantine log as a queue from which nobody deletes: its retention period does. SQS hides from a reader what another one
 * has in its hands, so what this one has seen it remembers, and reads what is new beside it.
 */
export class SqsQuarantineLog implements QuarantineLog {
  readonly #parts: QuarantineLogParts;
  /** By SQS's ids of the messages. */
  readonly #remembered = new Map<string, Remembered>();
  readonly #ended = new AbortController();
  #reading: Promise<readonly string[]> | undefined;
  #next: Promise<readonly string[]> | undefined;

  constructor(parts: QuarantineLogParts) {
    this.#parts = parts;
  }

  async append(record: string): Promise<void> {
    const { clients, requestTimeoutMs } = this.#parts;
    const command = { MessageBody: encodeRecord(record) };
    const { MessageId = "" } = await this.#ask("appending to", (QueueUrl) => {
      const abortSignal = AbortSignal.any([this.#ended.signal, AbortSignal.timeout(requestTimeoutMs)]);
      // The SDK tries again in that time: a record may be there twice.
      return clients.control.sqs.send(new SendMessageCommand({ QueueUrl, ...command }), { abortSignal });
    });
    this.#remember(MessageId, record, Date.now());
  }

  read(): Promise<readonly string[]> {
    if (this.#reading === undefined) return this.#start();
    // One that is under way may have come by what was appended since. All who ask meanwhile share the next one.
    const afterwards = () => {
      this.#next = undefined;
      return this.#reading ?? this.#start();
    };
    this.#next ??= this.#reading.then(afterwards, afterwards);
    return this.#next;
  }

  /** Ends what is under way. A poll that is abandoned would hide from others what it takes, so it is waited for. */
  async close(): Promise<void> {
    this.#ended.abort();
    await Promise.allSettled([this.#reading, this.#next]);
  }

  #start(): Promise<readonly string[]> {
    this.#reading = this.#ask("reading", (url) => this.#take(url)).finally(() => {
      this.#reading = undefined;
    });
    return this.#reading;
  }

  /**
   * Takes what is there, until nothing more comes, and gives all of it back. Rejects where more may be there that was never
   * seen: who misses the end of a note takes its writer for dead.
   */
  async #take(QueueUrl: string): Promise<readonly string[]> {
    const end = performance.now() + this.#parts.requestTimeoutMs;
    const taken: Message[] = [];
    let [came, added] = [1, 0];
    try {
      while (came > 0 && taken.length < MOST_READ && performance.now() < end) {
        if (this.#ended.signal.aborted) throw new MessagingError("closed", "the SQS adapter was closed");
        const { Messages = [] } = await this.#parts.clients.polling.send(
          new ReceiveMessageCommand({
            QueueUrl,
            MaxNumberOfMessages: MOST_ENTRIES,
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
      await this.#giveBack(QueueUrl, taken);
    }
    if (came > 0 && added > 0) throw tooMany(this.#parts.where, taken.length);
    return this.#records();
  }

  /** Others see it sooner then. What is not given back comes back by itself. */
  async #giveBack(QueueUrl: string, taken: readonly Message[]): Promise<void> {
    try {
      for (let at = 0; at < taken.length; at += MOST_ENTRIES) {
        const Entries = taken
          .slice(at, at + MOST_ENTRIES)
          .map(({ ReceiptHandle }, index) => ({ Id: String(index), ReceiptHandle, VisibilityTimeout: 0 }));
        await this.#parts.clients.sqs.send(new ChangeMessageVisibilityBatchCommand({ QueueUrl, Entries }));
      }
    } catch {
      // The others would fare the same.
    }
  }

  /** Returns how many were not known. */
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
    if (this.#remembered.size <= MOST_REMEMBERED) return;
    const [oldest = ""] = this.#remembered.keys();
    this.#remembered.delete(oldest);
  }

  #records(): readonly string[] {
    const now = Date.now();
    for (const [id, { until }] of this.#remembered) if (until <= now) this.#remembered.delete(id);
    return [...this.#remembered.values()].map(({ record }) => record);
  }

  /** Asks the queue; once more where it was gone and stands again. */
  async #ask<Result>(what: string, ask: (url: string) => Promise<Result>): Promise<Result> {
    const { where, find, missing, unanswered } = this.#parts;
    try {
      try {
        return await ask(await find());
      } catch (error) {
        const gone = isMissing(error) || isMessagingError(error, "not-found");
        if (!gone || !(await missing())) throw error;
        return await ask(await find());
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
    `the ${where} holds more than the ${count} records that one look took, and some were never seen; look again, each one brings others`,
  );
}

/** As JSON within ASCII: SQS refuses some characters, and emulators refuse others. */
function encodeRecord(record: string): string {
  const escaped = (character: string) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return JSON.stringify(record).replaceAll(/[^ -~]/g, escaped);
}

/** Undefined for what somebody else put there. */
function decodeRecord(body: string): string | undefined {
  try {
    const record: unknown = JSON.parse(body);
    return typeof record === "string" ? record : undefined;
  } catch {
    return undefined;
  }
}
