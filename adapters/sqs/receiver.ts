import { type Message, ReceiveMessageCommand, type SQSClient } from "@aws-sdk/client-sqs";
import type { DeliverySink, IncomingMessage, Receiver, Settlement, SettleResult } from "../../core/adapter.ts";
import type { MessagingError } from "../../core/errors.ts";
import { asMessagingError, isAnswer, isMissing } from "./errors.ts";
import { decodeMessage } from "./message.ts";
import { MOST_ENTRIES } from "./sender.ts";
import type { Change, Settling } from "./settling.ts";

/** SQS takes a message back after so long, however often its visibility timeout was extended. */
const LONGEST_HOLD_MS = 12 * 60 * 60 * 1_000;
const FIRST_RETRY_MS = 100;
const LONGEST_RETRY_MS = 5_000;

/** A delivery as the receiver knows it. */
interface Held {
  readonly receipt: string;
  readonly receivedAt: number;
  settled: boolean;
}

/** What a receiver needs of its queue. */
export interface ReceiverParts {
  /** Names the source in messages to people. */
  readonly where: string;
  readonly url: string;
  readonly polling: SQSClient;
  readonly settling: Settling;
  readonly leaseMs: number;
  readonly waitSeconds: number;
  readonly maxPolls: number;
  readonly window: number;
  /** Whether a message is one that the subscription asked for. */
  readonly wanted?: (message: IncomingMessage<Message>) => boolean;
  /** The queue is gone. Resolves when it stands again, or was looked for in vain. */
  missing(): Promise<void>;
  unanswered(cause: unknown): void;
  /** Why nothing may come although much stands there; undefined if nothing is known. */
  congested(): Promise<MessagingError | undefined>;
}

/** Takes messages from a queue by as many long polls as its window has use for. */
export class SqsReceiver implements Receiver {
  readonly leaseMs: number;
  readonly #parts: ReceiverParts;
  readonly #sink: DeliverySink<Message>;
  readonly #unsettled = new Set<Held>();
  readonly #polls = new Set<Promise<void>>();
  #window: number;
  /** Messages that polls under way may bring. */
  #awaited = 0;
  /** How many polls are worth having: as many as came back full. */
  #wanted = 1;
  #failures = 0;
  #retry: NodeJS.Timeout | undefined;
  #closing: Promise<void> | undefined;

  constructor(parts: ReceiverParts, sink: DeliverySink<Message>) {
    this.#parts = parts;
    this.#sink = sink;
    this.leaseMs = parts.leaseMs;
    this.#window = parts.window;
    this.#pump();
  }

  window(count: number): void {
    this.#window = count;
    this.#pump();
  }

  /** Makes polls while the window has room for what they bring. */
  #pump(): void {
    while (this.#closing === undefined && this.#retry === undefined && this.#polls.size < this.#wanted) {
      const room = Math.min(this.#window - this.#unsettled.size - this.#awaited, MOST_ENTRIES);
      // A poll for one message costs as much as one for ten: beside another it is worth waiting for more room.
      const least = Math.min(MOST_ENTRIES, Math.ceil(this.#window / 2));
      if (room < 1 || (room < least && this.#polls.size > 0)) return;
      const poll = this.#poll(room).finally(() => {
        this.#polls.delete(poll);
        this.#pump();
      });
      this.#polls.add(poll);
    }
  }

  async #poll(most: number): Promise<void> {
    const { url, polling, leaseMs, waitSeconds } = this.#parts;
    this.#awaited += most;
    let messages: readonly Message[];
    try {
      const { Messages = [] } = await polling.send(
        new ReceiveMessageCommand({
          QueueUrl: url,
          MaxNumberOfMessages: most,
          WaitTimeSeconds: waitSeconds,
          VisibilityTimeout: leaseMs / 1_000,
          MessageAttributeNames: ["All"],
          MessageSystemAttributeNames: ["All"],
        }),
      );
      messages = Messages;
      this.#failures = 0;
    } catch (error) {
      this.#awaited -= most;
      await this.#failed(error);
      return;
    }
    this.#awaited -= most;
    if (messages.length === most) this.#wanted = Math.min(this.#wanted * 2, this.#parts.maxPolls);
    else if (messages.length === 0) this.#wanted = 1;
    if (messages.length > 0) await this.#arrived(messages);
    else await this.#sayIfCongested();
  }

  async #arrived(messages: readonly Message[]): Promise<void> {
    const room = this.#closing === undefined ? Math.max(this.#window - this.#unsettled.size, 0) : 0;
    const late = messages.slice(room);
    const unwanted: Change[] = [];
    const deliveries: IncomingMessage<Message>[] = [];
    for (const message of messages.slice(0, room)) {
      const held: Held = { receipt: message.ReceiptHandle ?? "", receivedAt: Date.now(), settled: false };
      const incoming = { token: held, ...decodeMessage(message) };
      if (this.#parts.wanted?.(incoming) === false) {
        unwanted.push({ receipt: held.receipt });
        continue;
      }
      this.#unsettled.add(held);
      deliveries.push(incoming);
    }
    if (deliveries.length > 0) this.#sink.deliver(deliveries);
    // What came after it was asked for goes back at once.
    const back = late.map(({ ReceiptHandle = "" }) => ({ receipt: ReceiptHandle, visibilitySeconds: 0 }));
    if (back.length + unwanted.length > 0) await this.#parts.settling.apply([...back, ...unwanted]);
  }

  async #failed(error: unknown): Promise<void> {
    if (this.#closing !== undefined) return;
    this.#sink.stalled(asMessagingError(`taking messages from ${this.#parts.where}`, error));
    if (!isAnswer(error)) this.#parts.unanswered(error);
    const wait = Math.min(FIRST_RETRY_MS * 2 ** this.#failures, LONGEST_RETRY_MS) * (0.5 + Math.random() / 2);
    this.#failures++;
    this.#wanted = 1;
    if (isMissing(error)) await this.#parts.missing();
    if (this.#closing !== undefined || this.#retry !== undefined) return;
    this.#retry = setTimeout(() => {
      this.#retry = undefined;
      this.#pump();
    }, wait);
  }

  async #sayIfCongested(): Promise<void> {
    const cause = await this.#parts.congested();
    if (cause !== undefined && this.#closing === undefined) this.#sink.stalled(cause);
  }

  async settle(batch: readonly Settlement[]): Promise<readonly SettleResult[]> {
    const results: SettleResult[] = new Array(batch.length).fill("fenced");
    const changes: Change[] = [];
    const positions: number[] = [];
    for (const [position, { token, action }] of batch.entries()) {
      const held = token as Held;
      if (held.settled) continue;
      held.settled = true;
      changes.push({ receipt: held.receipt, ...(action === "ack" ? {} : { visibilitySeconds: 0 }) });
      positions.push(position);
    }
    const done = await this.#parts.settling.apply(changes);
    for (const [index, position] of positions.entries()) {
      if (done[index]) results[position] = "settled";
      this.#unsettled.delete(batch[position]?.token as Held);
    }
    this.#pump();
    return results;
  }

  async extend(batch: readonly unknown[]): Promise<readonly boolean[]> {
    const now = Date.now();
    const changes = batch.map((token): Change | undefined => {
      const held = token as Held;
      const left = Math.min(this.leaseMs, held.receivedAt + LONGEST_HOLD_MS - now);
      return held.settled || left < 1_000
        ? undefined
        : { receipt: held.receipt, visibilitySeconds: Math.floor(left / 1_000) };
    });
    const done = await this.#parts.settling.apply(changes.flatMap((change) => change ?? []));
    let index = 0;
    return changes.map((change, position) => {
      const kept = change !== undefined && done[index++] === true;
      if (!kept) this.#gone(batch[position] as Held);
      return kept;
    });
  }

  #gone(held: Held): void {
    held.settled = true;
    this.#unsettled.delete(held);
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /** Polls are waited for: what SQS hands to an abandoned one would be nobody's until its visibility timeout. */
  async #close(): Promise<void> {
    clearTimeout(this.#retry);
    await Promise.all(this.#polls);
    const left = [...this.#unsettled];
    this.#unsettled.clear();
    for (const held of left) held.settled = true;
    await this.#parts.settling.apply(left.map(({ receipt }) => ({ receipt, visibilitySeconds: 0 })));
  }
}
