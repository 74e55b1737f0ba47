import type { TopicPartition } from "../port.ts";
import type { LogRecord } from "../records/contract.ts";
import { add, KeptOffsets, MAX_AHEAD, OffsetSet, type Progress, remove, withCrash } from "./progress.ts";

/** What an object for a record takes beside its bytes, roughly. */
export const RECORD_BYTES = 200;

export interface Piece {
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

/** A record that was handed out: the token of one delivery. */
export class InFlightRecord implements DeliveredRecord {
  readonly record: LogRecord;
  readonly crashes: number;
  readonly ledger: PartitionLedger;
  /** Its place in the ledger. */
  readonly slot: number;
  /** Whether it is still to be settled. */
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
}

export const COMPACT_AFTER = 1024;

/**
 * What is known of a partition while it is ours: what was fetched, handed out, given back and finished. Records are handed
 * out in the order of their offsets, one that was given back before all that follow it.
 */
export class PartitionLedger {
  readonly topic: string;
  readonly partition: number;
  /** What dead letters refer to. */
  readonly kept: KeptOffsets;
  readonly #buffer = new RecordBuffer();
  /**
   * Everything handed out from the first unfinished on: its offset, and its latest delivery until it is finished. A slot
   * is an index into both, counted from the very first.
   */
  #offsets: number[] = [];
  #entries: (InFlightRecord | undefined)[] = [];
  #head = 0;
  #dropped = 0;
  /** Given back, in descending order while `#requeuedInOrder`. */
  #requeued: InFlightRecord[] = [];
  #requeuedInOrder = true;
  #position: number;
  /** Behind the highest offset ever handed out. */
  #deliveredTo: number;
  #inFlight = 0;
  #unconfirmed = 0;
  /** What others finished before it was ours. */
  #finishedBefore: OffsetSet;
  #crashes: readonly number[];
  /** How far the hands of the one before us may have reached, until it is known how far the log went. */
  #inDoubtTo: number | undefined;
  /** The crash that was counted last, until it is known what was appended after it. */
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

  /** Where to fetch on. */
  get position(): number {
    return this.#position;
  }

  /** Every record before it is finished, or does not exist. */
  get prefix(): number {
    return this.#offsets[this.#head] ?? this.#buffer.first?.offset ?? this.#position;
  }

  /** Nothing at or above it was ever handed out. */
  get deliveredTo(): number {
    return Math.max(this.#deliveredTo, this.prefix);
  }

  get buffered(): number {
    return this.#buffer.size;
  }

  /** What is buffered takes so much memory, roughly. */
  get bufferedBytes(): number {
    return this.#buffer.bytes;
  }

  /** How many are to be settled yet. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** How many are finished without that being confirmed. */
  get unconfirmed(): number {
    return this.#unconfirmed;
  }

  /** Whether {@link takeOver} was called. */
  get begun(): boolean {
    return this.#inDoubtTo === undefined;
  }

  /**
   * Learns where the log ended after it became ours. If the one before us did not leave in order, everything that it may
   * have held has one crash more; not what the broker appended later than `diedBefore` (milliseconds since 1970). A second
   * call does nothing.
   */
  takeOver(logEnd: number, diedBefore = Number.POSITIVE_INFINITY): void {
    if (this.#inDoubtTo === undefined) return;
    const reached = Math.min(this.#inDoubtTo, logEnd);
    this.#inDoubtTo = undefined;
    if (reached <= this.prefix) return;
    this.#crashes = withCrash(this.#crashes, reached);
    this.#lastCrash = { reached, diedBefore };
  }

  /** Adds what was fetched at the position. What is finished, or not wanted, is passed over. */
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

  /** What was appended when its consumer was dead already was not in its hands. */
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

  /** There is nothing from the position up to an offset. */
  skipTo(offset: number): void {
    this.#position = Math.max(this.#position, offset);
  }

  /** The record to be handed out next; none while it is too far above the first unfinished one. */
  get next(): LogRecord | undefined {
    const record = this.#peekRequeued()?.record ?? this.#buffer.first;
    return record === undefined || record.offset - this.prefix >= MAX_AHEAD ? undefined : record;
  }

  /** How many consumers died while a record was, or may have been, in their hands. */
  #crashesOf(offset: number): number {
    let crashes = 0;
    for (const watermark of this.#crashes) if (watermark > offset) crashes++;
    return crashes;
  }

  /** Hands out {@link next}. */
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

  /** False if it is not in anybody's hands. */
  finish(entry: InFlightRecord): boolean {
    if (!entry.isUnsettled) return false;
    entry.isUnsettled = false;
    this.#inFlight--;
    this.#unconfirmed++;
    // The record is let go at once: those behind a slow one may be many.
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

  /** Takes a record back, to be handed out again. False if it is not in anybody's hands. */
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

  /** What is in somebody's hands, in the order of offsets. */
  inFlightRecords(): InFlightRecord[] {
    const held: InFlightRecord[] = [];
    for (let index = this.#head; index < this.#entries.length; index++) {
      const entry = this.#entries[index];
      if (entry?.isUnsettled) held.push(entry);
    }
    return held;
  }

  /** Whatever is in somebody's hands cannot be settled any more; it stays unfinished. */
  abandon(): InFlightRecord[] {
    const held = this.inFlightRecords();
    for (const entry of held) entry.isUnsettled = false;
    this.#inFlight = 0;
    return held;
  }

  /** The lowest watermark that covers everything in somebody's hands. */
  exactWatermark(): number {
    for (let index = this.#entries.length - 1; index >= this.#head; index--) {
      if (this.#entries[index]?.isUnsettled) return (this.#offsets[index] as number) + 1;
    }
    return this.prefix;
  }

  /** So many that were finished are confirmed to be. */
  confirm(count: number): void {
    this.#unconfirmed -= count;
  }

  /** The progress to commit. `watermark` must cover everything in somebody's hands. */
  progress(watermark: number): Progress {
    const { prefix } = this;
    this.#crashes = this.#crashes.filter((reached) => reached > prefix);
    const { lowest: kept } = this.kept;
    const finished = this.#finished(prefix);
    return { offset: prefix, watermark: Math.max(watermark, prefix), crashes: this.#crashes, finished, kept };
  }

  #finished(prefix: number): OffsetSet {
    const restored = this.#finishedBefore;
    const onDelivered = Math.max(this.#deliveredTo - prefix, 0);
    const bits = new Uint8Array(Math.ceil(Math.max(onDelivered, restored.end - prefix, 0) / 8));
    // Of what was handed out, everything that is not unfinished.
    bits.fill(0xff, 0, onDelivered >> 3);
    for (let index = onDelivered & ~7; index < onDelivered; index++) add(bits, index);
    for (let index = this.#head; index < this.#entries.length; index++) {
      const entry = this.#entries[index];
      if (entry === undefined) continue;
      const offset = this.#offsets[index] as number;
      // Somebody else may be able to read what stands for several, and has to find each of them unfinished.
      const last = entry.record.unreadable?.lastOffset ?? offset;
      for (let one = offset; one <= last; one++) remove(bits, one - prefix);
    }
    for (let offset = prefix + onDelivered; offset < restored.end; offset++) {
      if (restored.has(offset)) add(bits, offset - prefix);
    }
    return new OffsetSet(prefix, bits);
  }
}

/** Whether all of these offsets are finished. */
export function isFinished(first: number, last: number, finished: OffsetSet): boolean {
  // The end is above all that are.
  if (last >= finished.end) return false;
  for (let offset = first; offset <= last; offset++) if (!finished.has(offset)) return false;
  return true;
}

/** A record that is ours until it is settled; it is its own delivery token. */
export interface DeliveredRecord extends TopicPartition {
  readonly record: LogRecord;
  /** How many consumers died while it was, or may have been, in their hands. */
  readonly crashes: number;
}
