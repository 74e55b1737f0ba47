import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type InFlightRecord, PartitionLedger } from "../../../adapters/kafka/consuming/partition-ledger.ts";
import {
  beginning,
  decodeProgress,
  encodeProgress,
  MAX_AHEAD,
  type Progress,
} from "../../../adapters/kafka/consuming/progress.ts";
import type { LogRecord } from "../../../adapters/kafka/records/contract.ts";
import { identity } from "../topic-ids.ts";

const AT = { topic: "orders", partition: 3 };

function record(offset: number, value = "x"): LogRecord {
  return { offset, timestamp: 0, key: undefined, value: Buffer.from(value), headers: {} };
}

function ledgerOf(progress: Progress, ...offsets: readonly number[]): PartitionLedger {
  const ledger = new PartitionLedger(AT, progress);
  ledger.takeOver(Number.POSITIVE_INFINITY);
  ledger.append(
    offsets.map((offset) => record(offset)),
    (offsets.at(-1) ?? progress.offset - 1) + 1,
  );
  return ledger;
}

function takeAll(ledger: PartitionLedger): InFlightRecord[] {
  const entries: InFlightRecord[] = [];
  for (let entry = ledger.take(); entry !== undefined; entry = ledger.take()) entries.push(entry);
  return entries;
}

const offsetsOf = (entries: readonly InFlightRecord[]): number[] => entries.map(({ record: { offset } }) => offset);

describe("a partition's ledger", () => {
  it("hands a record out that was given back before those behind it", () => {
    const ledger = ledgerOf(beginning(0), 0, 1, 2, 3);
    const [first, second] = [ledger.take(), ledger.take()] as [InFlightRecord, InFlightRecord];
    expect(ledger.requeue(second)).toBe(true);
    expect(ledger.requeue(first)).toBe(true);
    expect(ledger.requeue(first)).toBe(false);
    expect(ledger.finish(first)).toBe(false);
    expect(offsetsOf(takeAll(ledger))).toEqual([0, 1, 2, 3]);
    expect(ledger.inFlight).toBe(4);
  });

  it("stops handing out too far above what is not finished", () => {
    const offsets = Array.from({ length: MAX_AHEAD + 2 }, (_, offset) => offset);
    const ledger = ledgerOf(beginning(0), ...offsets);
    const taken = takeAll(ledger);
    expect(taken).toHaveLength(MAX_AHEAD);
    for (const entry of taken.slice(1)) ledger.finish(entry);
    expect(ledger.take()).toBeUndefined();
    expect(encodeProgress(ledger.progress(0), identity("orders")).length).toBeLessThan(4096);
    ledger.finish(taken[0] as InFlightRecord);
    expect(offsetsOf(takeAll(ledger))).toEqual([MAX_AHEAD, MAX_AHEAD + 1]);
  });

  it("is not held up by offsets that do not exist", () => {
    const ledger = ledgerOf(beginning(0), 5, 1_000_000, 2_000_000);
    expect(ledger.prefix).toBe(5);
    const [first] = takeAll(ledger) as [InFlightRecord];
    expect(ledger.next).toBeUndefined();
    ledger.finish(first);
    expect(ledger.prefix).toBe(1_000_000);
    expect(offsetsOf(takeAll(ledger))).toEqual([1_000_000]);
  });

  it("passes over what is not wanted", () => {
    const ledger = new PartitionLedger(AT, beginning(0));
    ledger.append([record(0, "no"), record(1, "yes"), record(2, "no")], 3, ({ value }) => value?.toString() === "yes");
    expect(ledger.prefix).toBe(1);
    const [only] = takeAll(ledger) as [InFlightRecord];
    expect(only.record.offset).toBe(1);
    ledger.finish(only);
    expect(ledger.prefix).toBe(3);
  });

  it("counts a crash for what the one before may have held, and for nothing else", () => {
    const progress = { ...beginning(10), watermark: 14, crashes: [12] };
    const ledger = new PartitionLedger(AT, progress);
    ledger.takeOver(13);
    ledger.append(
      [10, 11, 12, 13].map((offset) => record(offset)),
      14,
    );
    expect(takeAll(ledger).map(({ crashes }) => crashes)).toEqual([2, 2, 1, 0]);
    expect(ledger.progress(0).crashes).toEqual([12, 13]);
  });

  it("counts none for what the broker appended when the one before was dead", () => {
    const appended = (offset: number, timestamp: number) => ({ ...record(offset), timestamp, appendTime: true });
    const ledger = new PartitionLedger(AT, { ...beginning(10), watermark: 16, crashes: [16] });
    ledger.takeOver(16, 5_000);
    ledger.append([appended(10, 1_000), appended(11, 4_999)], 12);
    expect(ledger.progress(0).crashes).toEqual([16, 16]);
    ledger.append([appended(12, 5_000), appended(13, 6_000)], 14);
    expect(takeAll(ledger).map(({ crashes }) => crashes)).toEqual([2, 2, 1, 1]);
    expect(ledger.progress(0).crashes).toEqual([12, 16]);
  });

  it("does not believe the clocks of producers", () => {
    const ledger = new PartitionLedger(AT, { ...beginning(10), watermark: 12 });
    ledger.takeOver(12, 5_000);
    ledger.append(
      [
        { ...record(10), timestamp: 9_000 },
        { ...record(11), timestamp: 9_000 },
      ],
      12,
    );
    expect(takeAll(ledger).map(({ crashes }) => crashes)).toEqual([1, 1]);
  });

  it("counts none where the one before left in order", () => {
    const ledger = ledgerOf(beginning(10), 10, 11);
    expect(takeAll(ledger).map(({ crashes }) => crashes)).toEqual([0, 0]);
  });

  it("lets go of the records behind a slow one", () => {
    const ledger = ledgerOf(beginning(0), ...Array.from({ length: 5_000 }, (_, offset) => offset));
    const taken = takeAll(ledger);
    for (const entry of taken.slice(1)) ledger.finish(entry);
    expect(offsetsOf(ledger.inFlightRecords())).toEqual([0]);
    expect(ledger.exactWatermark()).toBe(1);
  });

  it("agrees with a simple model, over any number of owners", () => {
    const step = fc.oneof(
      {
        weight: 4,
        arbitrary: fc.record({ kind: fc.constant("append" as const), gaps: fc.array(fc.nat(3), { maxLength: 9 }) }),
      },
      { weight: 6, arbitrary: fc.record({ kind: fc.constant("take" as const) }) },
      { weight: 6, arbitrary: fc.record({ kind: fc.constant("finish" as const), which: fc.nat() }) },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant("requeue" as const), which: fc.nat() }) },
      {
        weight: 1,
        arbitrary: fc.record({ kind: fc.constant("hand over" as const), dies: fc.boolean(), ahead: fc.nat(5) }),
      },
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 120 }), (steps) => {
        const model = new Model();
        for (const one of steps) model.apply(one);
      }),
      { numRuns: 500 },
    );
  });
});

type Step =
  | { readonly kind: "append"; readonly gaps: readonly number[] }
  | { readonly kind: "take" }
  | { readonly kind: "finish" | "requeue"; readonly which: number }
  | { readonly kind: "hand over"; readonly dies: boolean; readonly ahead: number };

/** A log of which everything is remembered, beside the ledger of whoever owns it. */
class Model {
  readonly #log: number[] = [];
  #end = 0;
  readonly #finished = new Set<number>();
  readonly #crashes = new Map<number, number>();
  #held: InFlightRecord[] = [];
  #ledger = new PartitionLedger(AT, beginning(0));

  constructor() {
    this.#ledger.takeOver(0);
  }

  apply(step: Step): void {
    if (step.kind === "append") this.#append(step.gaps);
    else if (step.kind === "take") this.#take();
    else if (step.kind === "hand over") this.#handOver(step.dies, step.ahead);
    else this.#settle(step.kind, step.which);
    this.#compare();
  }

  #append(gaps: readonly number[]): void {
    for (const gap of gaps) {
      this.#log.push(this.#end + gap);
      this.#end += gap + 1;
    }
    this.#fetch();
  }

  #fetch(): void {
    const { position } = this.#ledger;
    this.#ledger.append(
      this.#log.filter((offset) => offset >= position).map((offset) => record(offset)),
      this.#end,
    );
  }

  /** Not finished, and in nobody's hands. */
  #waiting(): number[] {
    const held = new Set(offsetsOf(this.#held));
    return this.#log.filter((offset) => !this.#finished.has(offset) && !held.has(offset));
  }

  #take(): void {
    const [expected] = this.#waiting();
    const entry = this.#ledger.take();
    expect(entry?.record.offset).toBe(expected);
    if (entry === undefined) return;
    expect(entry.crashes).toBe(this.#crashes.get(entry.record.offset) ?? 0);
    this.#held.push(entry);
  }

  #settle(kind: "finish" | "requeue", which: number): void {
    const entry = this.#held[which % this.#held.length];
    if (entry === undefined) return;
    expect(this.#ledger[kind](entry)).toBe(true);
    expect(this.#ledger[kind](entry)).toBe(false);
    this.#held = this.#held.filter((other) => other !== entry);
    if (kind === "finish") this.#finished.add(entry.record.offset);
  }

  #handOver(dies: boolean, ahead: number): void {
    const before = this.#ledger;
    const abandoned = dies ? undefined : before.abandon();
    if (abandoned !== undefined)
      expect(abandoned).toEqual([...this.#held].sort((a, b) => a.record.offset - b.record.offset));
    const watermark = dies ? before.exactWatermark() + ahead : before.exactWatermark();
    const { offset, metadata } = {
      offset: before.prefix,
      metadata: encodeProgress(before.progress(watermark), identity("orders")),
    };
    if (dies) {
      for (const at of this.#log.filter((one) => one < watermark && !this.#finished.has(one))) {
        this.#crashes.set(at, (this.#crashes.get(at) ?? 0) + 1);
      }
    }
    this.#held = [];
    this.#ledger = new PartitionLedger(AT, decodeProgress({ offset, metadata }).progress);
    this.#ledger.takeOver(this.#end);
    this.#fetch();
  }

  #compare(): void {
    const unfinished = this.#log.filter((offset) => !this.#finished.has(offset));
    expect(this.#ledger.prefix).toBe(unfinished[0] ?? this.#end);
    expect(this.#ledger.inFlight).toBe(this.#held.length);
    expect(this.#ledger.inFlightRecords()).toHaveLength(this.#held.length);
    const highest = Math.max(-1, ...offsetsOf(this.#held));
    expect(this.#ledger.exactWatermark()).toBe(highest < 0 ? this.#ledger.prefix : highest + 1);
  }
}
