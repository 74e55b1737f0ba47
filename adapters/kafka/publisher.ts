import type { OutgoingMessage, SendReport } from "../../core/adapter.ts";
import { type Address, describeAddress } from "../../core/address.ts";
import type { Random } from "../../core/clock.ts";
import { isMessagingError, MessagingError } from "../../core/errors.ts";
import { deadLetterRecord } from "./dead-letters/records.ts";
import { delayedRecord, dueAfter } from "./delays/levels.ts";
import { toRecord } from "./message-codec.ts";
import { type DelayableAddress, delaysTopic, topicName } from "./names.ts";
import type { Producer, RecordToSend } from "./producing/producer.ts";
import { DEFAULT_LIMITS } from "./records/contract.ts";

interface PublisherDependencies {
  readonly producer: Producer;
  readonly random: Random;
  /** Milliseconds since 1970. */
  now(): number;
  /** Recreates a missing topic if that is allowed. Resolves with whether the topic exists. Never rejects. */
  restore(topic: string): Promise<boolean>;
}

/** Sends messages to the topic of their address, or to the delays topic if they are delayed. */
export class KafkaPublisher {
  readonly #dependencies: PublisherDependencies;

  constructor(dependencies: PublisherDependencies) {
    this.#dependencies = dependencies;
  }

  /** See `Adapter.send`. */
  send(to: Address, batch: readonly OutgoingMessage[], report: SendReport): void {
    if (to.kind === "quarantine") {
      const error = new MessagingError("unsupported", `${describeAddress(to)} takes no messages`);
      for (const index of batch.keys()) report(index, { status: "rejected", error });
    } else if (to.kind === "dead-letters") {
      const records = batch.map((message) => deadLetterRecord(message, this.#dependencies.random));
      this.#produce(topicName(to), records, report);
    } else if (batch.every(({ delayMs }) => delayMs === 0)) {
      this.#produce(topicName(to), batch.map(toRecord), report);
    } else {
      this.#sendMixed(to, batch, report);
    }
  }

  #sendMixed(to: DelayableAddress, batch: readonly OutgoingMessage[], report: SendReport) {
    const [now, later]: [number[], number[]] = [[], []];
    for (const [index, { delayMs }] of batch.entries()) (delayMs === 0 ? now : later).push(index);
    const at = (indexes: readonly number[]): SendReport => {
      return (index, result) => report(indexes[index] as number, result);
    };
    const messages = (indexes: readonly number[]) => indexes.map((index) => batch[index] as OutgoingMessage);
    this.#produce(topicName(to), messages(now).map(toRecord), at(now));
    const time = this.#dependencies.now();
    const delayed = messages(later).map((message) =>
      delayedRecord(toRecord(message), dueAfter(time, message.delayMs), time),
    );
    this.#produce(delaysTopic(to), delayed, at(later));
  }

  #produce(topic: string, all: readonly RecordToSend[], send: SendReport): void {
    // A record whose headers exceed the reader's limits would be read without them.
    const indexes: number[] = [];
    for (const [index, { headers }] of all.entries()) {
      if (areReadable(headers)) indexes.push(index);
      else send(index, { status: "rejected", error: tooManyHeaders(topic) });
    }
    if (indexes.length === 0) return;
    const records = indexes.length === all.length ? all : indexes.map((index) => all[index] as RecordToSend);
    const report: SendReport = (index, result) => send(indexes[index] as number, result);
    this.#dependencies.producer.send(topic, records, (index, result) => {
      if (result.status === "rejected" && isMessagingError(result.error, "not-found")) {
        void this.#dependencies.restore(topic).then((exists) => {
          // The topic exists again: the engine may send the message again under the same id.
          report(index, exists ? { status: "unknown", cause: result.error } : result);
        });
      } else {
        report(index, result);
      }
    });
  }
}

const { maxHeaders, maxHeaderBytes } = DEFAULT_LIMITS;
/** The lengths of name and value. */
const LENGTHS_BYTES = 10;

/** Whether a reader accepts so many headers of this size. */
function areReadable(headers: RecordToSend["headers"]): boolean {
  if (headers.length > maxHeaders) return false;
  let bytes = 0;
  for (const [name, value = ""] of headers) {
    bytes += Buffer.byteLength(name) + Buffer.byteLength(value) + LENGTHS_BYTES;
  }
  return bytes <= maxHeaderBytes;
}

function tooManyHeaders(topic: string): MessagingError {
  return new MessagingError(
    "too-large",
    `a record for "${topic}" would have more than ${maxHeaders} headers, or more than ${maxHeaderBytes} bytes of them, which are not read`,
  );
}
