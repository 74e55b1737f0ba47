import type { SendReport } from "../../../core/adapter.ts";
import type { RecordToWrite } from "../records/contract.ts";

/** A record and, where it is not left to the key, its partition. */
export interface RecordToSend extends RecordToWrite {
  readonly partition?: number;
}

/** Writes records to topics: acks=all, idempotent, in order per partition. */
export interface Producer {
  /** Hands records over, in order. `report` is called exactly once per index, also long after; see `Adapter.send`. */
  send(topic: string, records: readonly RecordToSend[], report: SendReport): void;
}
