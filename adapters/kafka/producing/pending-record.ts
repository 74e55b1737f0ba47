import type { SendReport } from "../../../core/adapter.ts";
import type { RecordToSend } from "./contract.ts";

/** A record for which its sender has no answer yet. */
export interface PendingRecord {
  readonly record: RecordToSend;
  /** Bytes that it takes in a batch. */
  readonly size: number;
  readonly index: number;
  readonly report: SendReport;
  /** Until when it is tried, in monotonic milliseconds. */
  readonly deadline: number;
}
