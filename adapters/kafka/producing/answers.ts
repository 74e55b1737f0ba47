import type { SendResult } from "../../../core/adapter.ts";
import type { MessagingError } from "../../../core/errors.ts";
import type { PendingRecord } from "./pending-record.ts";

const CONFIRMED: SendResult = Object.freeze({ status: "confirmed" });

/** Keeps what senders are to be told until it is their turn: behind the next requests, which must not wait for them. */
export class Answers {
  #heldBytes = 0;
  #due: { readonly records: readonly PendingRecord[]; readonly result: SendResult }[] = [];

  /** Bytes of records without an answer. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** Counts a record that is to be answered. */
  owe(record: PendingRecord): void {
    this.#heldBytes += record.size;
  }

  confirmed(records: readonly PendingRecord[]): void {
    this.#add(records, CONFIRMED);
  }

  rejected(records: readonly PendingRecord[], error: MessagingError): void {
    this.#add(records, { status: "rejected", error });
  }

  unknown(records: readonly PendingRecord[], cause: unknown): void {
    this.#add(records, { status: "unknown", cause });
  }

  /** Tells everybody. Who is told may send again meanwhile. */
  report(): void {
    const due = this.#due;
    this.#due = [];
    for (const { records, result } of due) for (const { report, index } of records) report(index, result);
  }

  #add(records: readonly PendingRecord[], result: SendResult): void {
    if (records.length === 0) return;
    for (const { size } of records) this.#heldBytes -= size;
    this.#due.push({ records, result });
  }
}
