import { MessagingError } from "../../../core/errors.ts";
import type { TopicId } from "../port.ts";
import type { LogRecord } from "../records/contract.ts";
import { replacedMeanwhile } from "../topic-identity.ts";
import type { Log, Piece } from "./contract.ts";

const WAIT_MS = 500;

/** A record, or why there is none: `gone` if it does not stand there any more. */
export type Found = { readonly record: LogRecord } | { readonly gone: MessagingError | undefined };

/** Gets records by their offsets. It keeps pieces that were read, so that those in order are read once. */
export class BodyReader {
  readonly #log: Log;
  /** The topic that the offsets are of. */
  #topicId: TopicId | undefined;
  #offered: KeptPiece | undefined;
  #read: KeptPiece | undefined;

  constructor(log: Log) {
    this.#log = log;
  }

  /** A piece that was read from an offset elsewhere; it takes the place of the last such. */
  offer(from: number, piece: Piece): void {
    this.#offered = new KeptPiece(from, piece);
  }

  /** The record if it stands in what is kept; undefined if that says nothing about the offset. */
  kept(offset: number): Found | undefined {
    return this.#read?.find(offset) ?? this.#offered?.find(offset);
  }

  /** As {@link kept}, and reads a piece if need be. Rejects if that fails. */
  async find(offset: number): Promise<Found> {
    const kept = this.kept(offset);
    if (kept !== undefined) return kept;
    const piece = await this.#log.read(offset, WAIT_MS);
    this.#checkTopic();
    if (piece === "out-of-range") {
      // Deleted by somebody; else the broker that was asked does not have it yet, or any more.
      const first = await this.#log.first();
      this.#checkTopic();
      if (offset < first) return { gone: undefined };
      throw notThere(this.#log, offset);
    }
    this.#read = new KeptPiece(offset, piece);
    const found = this.#read.find(offset);
    if (found !== undefined) return found;
    const { unreadable } = piece;
    // A broker answers with nothing, too, to one who asks for more than its quota allows.
    if (unreadable === undefined) throw notThere(this.#log, offset);
    if (unreadable.resumeAt === undefined) throw unreadable.error;
    return { gone: unreadable.error };
  }

  /** At the same offset of another topic is another record. */
  #checkTopic(): void {
    const { topic, topicId } = this.#log;
    this.#topicId ??= topicId;
    if (topicId !== this.#topicId) throw replacedMeanwhile(topic);
  }
}

/** That there is something at an offset was known, and it was not in the answer. */
export function notThere({ topic, partition }: Log, offset: number): MessagingError {
  const text = `offset ${offset} of "${topic}", partition ${partition}, did not come; try again`;
  return new MessagingError("unreachable", text);
}

class KeptPiece {
  readonly #from: number;
  readonly #piece: Piece;
  /** The index of the record that was last looked for. */
  #index = 0;

  constructor(from: number, piece: Piece) {
    this.#from = from;
    this.#piece = piece;
  }

  find(offset: number): Found | undefined {
    const { records, nextOffset } = this.#piece;
    if (offset < this.#from || offset >= nextOffset) return undefined;
    if ((records[this.#index]?.offset ?? Number.POSITIVE_INFINITY) > offset) this.#index = 0;
    while ((records[this.#index]?.offset ?? Number.POSITIVE_INFINITY) < offset) this.#index++;
    const record = records[this.#index];
    return record?.offset === offset ? { record } : { gone: undefined };
  }
}
