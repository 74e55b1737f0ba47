import type { LogRecord } from "../records/contract.ts";

/** What an object for a record takes beside its bytes, roughly. */
const RECORD_BYTES = 200;

interface Piece {
  readonly records: readonly LogRecord[];
  readonly bytesPerRecord: number;
}

/** Fetched records that wait to be handed out, in the order of their offsets. */
export class RecordBuffer {
  #pieces: Piece[] = [];
  /** Of the first piece. */
  #next = 0;
  #size = 0;
  #bytes = 0;

  get size(): number {
    return this.#size;
  }

  /** What they take in memory, roughly. */
  get bytes(): number {
    return this.#bytes;
  }

  get first(): LogRecord | undefined {
    return this.#pieces[0]?.records[this.#next];
  }

  /** Adds records whose offsets are above all that are here. */
  push(records: readonly LogRecord[]): void {
    if (records.length === 0) return;
    let bytes = records.length * RECORD_BYTES;
    for (const { key, value, written } of records) {
      bytes += (key?.length ?? 0) + (value?.length ?? 0) + (written?.size ?? 0);
    }
    this.#pieces.push({ records, bytesPerRecord: bytes / records.length });
    this.#size += records.length;
    this.#bytes += bytes;
  }

  shift(): LogRecord | undefined {
    const piece = this.#pieces[0];
    const record = piece?.records[this.#next];
    if (piece === undefined || record === undefined) return undefined;
    this.#next++;
    this.#size--;
    this.#bytes -= piece.bytesPerRecord;
    if (this.#next === piece.records.length) {
      this.#next = 0;
      this.#pieces.shift();
      if (this.#pieces.length === 0) this.#bytes = 0;
    }
    return record;
  }
}
