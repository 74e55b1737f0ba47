import type { RecordSink } from "../../../adapters/kafka/consuming/assigned-partition.ts";
import type { HeldRecord } from "../../../adapters/kafka/consuming/partition-ledger.ts";
import type { MessagingError } from "../../../core/errors.ts";

/** Keeps what comes. */
export class Inbox implements RecordSink {
  readonly held: HeldRecord[] = [];
  readonly delivered: HeldRecord[] = [];
  readonly revoked: HeldRecord[] = [];
  readonly stalls: MessagingError[] = [];
  readonly notices: MessagingError[] = [];
  readonly lostOnes: HeldRecord[] = [];
  onRecall: (records: readonly HeldRecord[]) => void = () => {};
  most = 0;

  deliver(records: readonly HeldRecord[]): void {
    this.held.push(...records);
    this.delivered.push(...records);
    this.most = Math.max(this.most, this.held.length);
  }

  revoke(records: readonly HeldRecord[]): void {
    this.revoked.push(...records);
    this.onRecall(records);
  }

  lost(records: readonly HeldRecord[]): void {
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
  drop(record: HeldRecord): HeldRecord {
    const index = this.held.indexOf(record);
    if (index >= 0) this.held.splice(index, 1);
    return record;
  }
}

export function bodyOf({ record }: HeldRecord): string {
  return (record.value ?? Buffer.alloc(0)).toString();
}
