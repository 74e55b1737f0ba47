import type { LogRecord } from "../records/contract.ts";
import type { HeldRecord } from "./contract.ts";
import type { PartitionLedger } from "./partition-ledger.ts";

/** A record that was handed out: the token of one delivery. */
export class InFlightRecord implements HeldRecord {
  readonly record: LogRecord;
  readonly deaths: number;
  readonly ledger: PartitionLedger;
  /** Its place in the ledger. */
  readonly slot: number;
  /** Whether it is still to be settled. */
  held = true;

  constructor(record: LogRecord, deaths: number, ledger: PartitionLedger, slot: number) {
    this.record = record;
    this.deaths = deaths;
    this.ledger = ledger;
    this.slot = slot;
  }

  get topic(): string {
    return this.ledger.topic;
  }

  get partition(): number {
    return this.ledger.partition;
  }
}
