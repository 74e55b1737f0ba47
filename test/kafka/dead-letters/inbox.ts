import type { RecordSink } from "../../../adapters/kafka/consuming/assigned-partition.ts";
import type { DeliveredRecord } from "../../../adapters/kafka/consuming/partition-ledger.ts";
import type { MessagingError } from "../../../core/errors.ts";

/** Keeps what comes. */
export class Inbox implements RecordSink {
  readonly held: DeliveredRecord[] = [];
  readonly delivered: DeliveredRecord[] = [];
  readonly revoked: DeliveredRecord[] = [];
  readonly stalls: MessagingError[] = [];
  readonly notices: MessagingError[] = [];
  readonly lostOnes: DeliveredRecord[] = [];
  onRecall: (records: readonly DeliveredRecord[]) => void = () => {};
  most = 0;

  deliver(records: readonly DeliveredRecord[]): void {
    this.held.push(...records);
    this.delivered.push(...records);
    this.most = Math.max(this.most, this.held.length);
  }

  revoke(records: readonly DeliveredRecord[]): void {
    this.revoked.push(...records);
    this.onRecall(records);
  }

  lost(records: readonly DeliveredRecord[]): void {
    this.lostOnes.push(...records);
    for (const record of records) this.drop(record);
  }

  stalled(cause: MessagingError): void {
    this.stalls.push(cause);
  }

  notice(error: MessagingError): void {
    this.notices.push(error);
  }

  /** Takes one out, to settle it. */
  drop(record: DeliveredRecord): DeliveredRecord {
    const index = this.held.indexOf(record);
    if (index >= 0) this.held.splice(index, 1);
    return record;
  }
}

export function bodyOf({ record }: DeliveredRecord): string {
  return (record.value ?? Buffer.alloc(0)).toString();
}
