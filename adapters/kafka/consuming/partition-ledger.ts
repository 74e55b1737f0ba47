import type { RecordPlace } from "../names.ts";
import type { TopicId, TopicPartition } from "../port.ts";
import type { LogRecord } from "../records/contract.ts";
import { add, KeptOffsets, MAX_AHEAD, OffsetSet, type Progress, remove, withCrash } from "./progress.ts";

/** About how many bytes the object of a record takes. */
const RECORD_BYTES = 200;

interface Piece {
  readonly records: readonly LogRecord[];
  readonly bytesPerRecord: number;
}

/** Fetched records that wait for delivery, in the order of offsets. */
export class RecordBuffer {
  #pieces: Piece[] = [];
  /** The index in the first piece. */
  #next = 0;
  #size = 0;
  #bytes = 0;

  get size(): number {
    return this.#size;
  }

  /** About how many bytes they take. */
  get bytes(): number {
    return this.#bytes;
  }

  get first(): LogRecord | undefined {
    return this.#pieces[0]?.records[this.#next];
  }

  /** Adds records with offsets above all others here. */
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

/** A delivered record: the token of one delivery. */
export class InFlightRecord implements DeliveredRecord {
  readonly record: LogRecord;
  readonly crashes: number;
  readonly ledger: PartitionLedger;
  /** Its slot in the ledger. */
  readonly slot: number;
  /** Whether it still must be settled. */
  isUnsettled = true;

  constructor(record: LogRecord, crashes: number, ledger: PartitionLedger, slot: number) {
    this.record = record;
    this.crashes = crashes;
    this.ledger = ledger;
    this.slot = slot;
  }

  get topic(): string {
    return this.ledger.topic;
  }

  get partition(): number {
    return this.ledger.partition;
  }

  get topicId(): TopicId {
    return this.ledger.topicId;
  }
}

const COMPACT_AFTER = 1024;

/**
 * The records of an assigned partition: fetched, in flight, requeued and finished. Records are delivered in the order
 * of their offsets; requeued ones come first.
 */
export class PartitionLedger {
  readonly topic: string;
  readonly partition: number;
  /** The id of the topic; empty until the cluster was asked. */
  topicId: TopicId = "";
  /** What dead letters refer to. */
  readonly kept: KeptOffsets;
  readonly #buffer = new RecordBuffer();
  /**
   * The delivered records from the first unfinished one on: offsets, and the latest delivery of each unfinished one. A
   * slot is an index counted from the very first.
   */
  #offsets: number[] = [];
  #entries: (InFlightRecord | undefined)[] = [];
  #head = 0;
  #dropped = 0;
  /** Requeued records, in descending order if `#requeuedInOrder`. */
  #requeued: InFlightRecord[] = [];
  #requeuedInOrder = true;
  #position: number;
  /** The offset after the highest one delivered. */
  #deliveredTo: number;
  #inFlight = 0;
  #unconfirmed = 0;
  /** What was finished before the assignment. */
  #finishedBefore: OffsetSet;
  #crashes: readonly number[];
  /** How far the previous consumer may have delivered, until the log's end is known. */
  #inDoubtTo: number | undefined;
  /** The last counted crash, until the records after it are known. */
  #lastCrash: { readonly reached: number; readonly diedBefore: number } | undefined;

  constructor(at: TopicPartition, progress: Progress) {
    this.topic = at.topic;
    this.partition = at.partition;
    this.#position = progress.offset;
    this.#deliveredTo = progress.offset;
    this.#finishedBefore = progress.finished;
    this.#crashes = progress.crashes;
    this.#inDoubtTo = progress.watermark;
    this.kept = new KeptOffsets(progress.kept);
  }

  /** The next offset to fetch. */
  get position(): number {
    return this.#position;
  }

  /** Every record before it is finished, or does not exist. */
  get prefix(): number {
    return this.#offsets[this.#head] ?? this.#buffer.first?.offset ?? this.#position;
  }

  /** No record at or above it was delivered. */
  get deliveredTo(): number {
    return Math.max(this.#deliveredTo, this.prefix);
  }

  get buffered(): number {
    return this.#buffer.size;
  }

  /** About how many bytes the buffer takes. */
  get bufferedBytes(): number {
    return this.#buffer.bytes;
  }

  /** How many deliveries are unsettled. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** How many finished records are not confirmed by a commit. */
  get unconfirmed(): number {
    return this.#unconfirmed;
  }

  /** Whether {@link takeOver} was called. */
  get begun(): boolean {
    return this.#inDoubtTo === undefined;
  }

  /**
   * Learns where the log ended after the assignment. If the previous consumer crashed, the crash counts for all records
   * it may have had in flight, except those appended after `diedBefore` (milliseconds since 1970). A second call does
   * nothing.
   */
  takeOver(logEnd: number, diedBefore = Number.POSITIVE_INFINITY): void {
    if (this.#inDoubtTo === undefined) return;
    const reached = Math.min(this.#inDoubtTo, logEnd);
    this.#inDoubtTo = undefined;
    if (reached <= this.prefix) return;
    this.#crashes = withCrash(this.#crashes, reached);
    this.#lastCrash = { reached, diedBefore };
  }

  /** Adds records fetched at the position, without finished and unwanted ones. */
  append(
    records: readonly LogRecord[],
    nextOffset: number,
    wanted?: (record: LogRecord, topic: string) => boolean,
  ): void {
    if (this.#lastCrash !== undefined) this.#excludeLater(records, this.#lastCrash);
    const finished = this.#finishedBefore;
    const first = records[0]?.offset ?? Number.POSITIVE_INFINITY;
    const all = wanted === undefined && first >= finished.end;
    this.#buffer.push(
      all
        ? records
        : records.filter((record) =>
            record.unreadable === undefined
              ? !finished.has(record.offset) && (wanted?.(record, this.topic) ?? true)
              : !isFinished(record.offset, record.unreadable.lastOffset, finished),
          ),
    );
    this.#position = Math.max(this.#position, nextOffset);
  }

  /** Records appended after the crash were not in flight. */
  #excludeLater(records: readonly LogRecord[], { reached, diedBefore }: { reached: number; diedBefore: number }): void {
    const later = records.find(
      ({ offset, appendTime, timestamp }) => offset >= reached || (appendTime === true && timestamp >= diedBefore),
    );
    if (later === undefined) return;
    this.#lastCrash = undefined;
    if (later.offset >= reached) return;
    const index = this.#crashes.lastIndexOf(reached);
    const others = this.#crashes.filter((_, position) => position !== index);
    this.#crashes = later.offset > this.prefix ? withCrash(others, later.offset) : others;
  }

  /** The log has no records from the position up to an offset. */
  skipTo(offset: number): void {
    this.#position = Math.max(this.#position, offset);
  }

  /** The next record to deliver; undefined if it is too far above the first unfinished one. */
  get next(): LogRecord | undefined {
    const record = this.#peekRequeued()?.record ?? this.#buffer.first;
    return record === undefined || record.offset - this.prefix >= MAX_AHEAD ? undefined : record;
  }

  /** How many consumers crashed while the record was, or may have been, in flight. */
  #crashesOf(offset: number): number {
    let crashes = 0;
    for (const watermark of this.#crashes) if (watermark > offset) crashes++;
    return crashes;
  }

  /** Delivers {@link next}. */
  take(): InFlightRecord | undefined {
    if (this.next === undefined) return undefined;
    this.#inFlight++;
    const requeued = this.#peekRequeued();
    if (requeued !== undefined) {
      this.#requeued.pop();
      const again = new InFlightRecord(requeued.record, requeued.crashes, this, requeued.slot);
      this.#entries[requeued.slot - this.#dropped] = again;
      return again;
    }
    const record = this.#buffer.shift() as LogRecord;
    const entry = new InFlightRecord(
      record,
      this.#crashesOf(record.offset),
      this,
      this.#dropped + this.#offsets.length,
    );
    this.#offsets.push(record.offset);
    this.#entries.push(entry);
    this.#deliveredTo = record.offset + 1;
    return entry;
  }

  /** False if it is not in flight. */
  finish(entry: InFlightRecord): boolean {
    if (!entry.isUnsettled) return false;
    entry.isUnsettled = false;
    this.#inFlight--;
    this.#unconfirmed++;
    // Drops the record at once: many may wait behind a slow one.
    this.#entries[entry.slot - this.#dropped] = undefined;
    while (this.#head < this.#entries.length && this.#entries[this.#head] === undefined) this.#head++;
    if (this.#head >= COMPACT_AFTER && this.#head * 2 >= this.#offsets.length) {
      this.#offsets = this.#offsets.slice(this.#head);
      this.#entries = this.#entries.slice(this.#head);
      this.#dropped += this.#head;
      this.#head = 0;
    }
    return true;
  }

  /** Takes a record back for another delivery. False if it is not in flight. */
  requeue(entry: InFlightRecord): boolean {
    if (!entry.isUnsettled) return false;
    entry.isUnsettled = false;
    this.#inFlight--;
    this.#requeued.push(entry);
    this.#requeuedInOrder = false;
    return true;
  }

  #peekRequeued(): InFlightRecord | undefined {
    if (this.#requeued.length === 0) return undefined;
    if (!this.#requeuedInOrder) {
      this.#requeued.sort((one, other) => other.slot - one.slot);
      this.#requeuedInOrder = true;
    }
    return this.#requeued[this.#requeued.length - 1];
  }

  /** The records in flight, in the order of offsets. */
  inFlightRecords(): InFlightRecord[] {
    const held: InFlightRecord[] = [];
    for (let index = this.#head; index < this.#entries.length; index++) {
      const entry = this.#entries[index];
      if (entry?.isUnsettled) held.push(entry);
    }
    return held;
  }

  /** Ends all deliveries. Their records stay unfinished. */
  abandon(): InFlightRecord[] {
    const held = this.inFlightRecords();
    for (const entry of held) entry.isUnsettled = false;
    this.#inFlight = 0;
    return held;
  }

  /** The lowest watermark that covers everything in flight. */
  exactWatermark(): number {
    for (let index = this.#entries.length - 1; index >= this.#head; index--) {
      if (this.#entries[index]?.isUnsettled) return (this.#offsets[index] as number) + 1;
    }
    return this.prefix;
  }

  /** A commit confirmed so many finished records. */
  confirm(count: number): void {
    this.#unconfirmed -= count;
  }

  /** The progress to commit. `watermark` must cover everything in flight. */
  progress(watermark: number): Progress {
    const { prefix } = this;
    this.#crashes = this.#crashes.filter((reached) => reached > prefix);
    const { lowest: kept } = this.kept;
    const finished = this.#finished(prefix);
    return { offset: prefix, watermark: Math.max(watermark, prefix), crashes: this.#crashes, finished, kept };
  }

  #finished(prefix: number): OffsetSet {
    const restored = this.#finishedBefore;
    const deliveredCount = Math.max(this.#deliveredTo - prefix, 0);
    const bits = new Uint8Array(Math.ceil(Math.max(deliveredCount, restored.end - prefix, 0) / 8));
    // Every delivered record except the unfinished ones.
    bits.fill(0xff, 0, deliveredCount >> 3);
    for (let index = deliveredCount & ~7; index < deliveredCount; index++) add(bits, index);
    for (let index = this.#head; index < this.#entries.length; index++) {
      const entry = this.#entries[index];
      if (entry === undefined) continue;
      const offset = this.#offsets[index] as number;
      // Another reader may read the records of an unreadable batch, and must find each unfinished.
      const last = entry.record.unreadable?.lastOffset ?? offset;
      for (let one = offset; one <= last; one++) remove(bits, one - prefix);
    }
    for (let offset = prefix + deliveredCount; offset < restored.end; offset++) {
      if (restored.has(offset)) add(bits, offset - prefix);
    }
    return new OffsetSet(prefix, bits);
  }
}

/** Whether all of these offsets are finished. */
function isFinished(first: number, last: number, finished: OffsetSet): boolean {
  // No finished offset is at or above the end.
  if (last >= finished.end) return false;
  for (let offset = first; offset <= last; offset++) if (!finished.has(offset)) return false;
  return true;
}

/** A record that is delivered and not settled; it is its own token. */
export interface DeliveredRecord extends RecordPlace {
  readonly record: LogRecord;
  /** How many consumers crashed while it was, or may have been, in flight. */
  readonly crashes: number;
}
