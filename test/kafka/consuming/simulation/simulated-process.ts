import type { RecordConsumer, RecordSink } from "../../../../adapters/kafka/consuming/assigned-partition.ts";
import { openConsumer } from "../../../../adapters/kafka/consuming/consumer.ts";
import type { DeliveredRecord } from "../../../../adapters/kafka/consuming/partition-ledger.ts";
import { decodeProgress } from "../../../../adapters/kafka/consuming/progress.ts";
import { partitionKey } from "../../../../adapters/kafka/names.ts";
import type { Settlement, SettleResult } from "../../../../core/adapter.ts";
import type { Prng } from "../../../simulation/prng.ts";
import { ProcessClock } from "../../../simulation/virtual-time.ts";
import { topicId } from "../../topic-ids.ts";
import type { Fate, Judge } from "./judge.ts";
import type { SimulatedGroup, SimulatedMember } from "./simulated-group.ts";
import { lifeOf } from "./simulated-log.ts";

export interface ProcessOptions {
  readonly prefetch: number;
  readonly prefetchPer: "consumer" | "partition";
}

interface Out {
  readonly held: DeliveredRecord;
  readonly key: string;
  /** As the key, of one topic among all of its name. */
  readonly life: string;
  readonly fate: Fate;
  settling: boolean;
}

/** From so many crashes on a poisonous record is put away instead of begun. */
const PUT_AWAY_FROM = 3;

/** A process with a consumer, and handlers of any speed. */
export class SimulatedProcess {
  readonly name: string;
  readonly clock: ProcessClock;
  readonly notices: string[] = [];
  dead = false;
  readonly #group: SimulatedGroup;
  readonly #judge: Judge;
  readonly #prng: Prng;
  readonly #options: ProcessOptions;
  readonly #onKilled: (process: SimulatedProcess) => void;
  readonly #out = new Map<DeliveredRecord, Out>();
  readonly #highest = new Map<string, number>();
  readonly #released = new Set<string>();
  #prefetch: number;
  #settling: Settlement[] = [];
  #member: SimulatedMember | undefined;
  #consumer: RecordConsumer | undefined;

  constructor(
    name: string,
    group: SimulatedGroup,
    prng: Prng,
    options: ProcessOptions,
    onKilled: (process: SimulatedProcess) => void,
  ) {
    this.name = name;
    this.clock = new ProcessClock(group.cluster.time);
    this.#group = group;
    this.#judge = group.judge;
    this.#prng = prng;
    this.#options = options;
    this.#onKilled = onKilled;
    this.#prefetch = options.prefetch;
  }

  async open(): Promise<void> {
    const { cluster } = this.#group;
    const topics = [...new Set([...cluster.logs.values()].map(({ topic }) => topic))];
    const sink: RecordSink = {
      deliver: (records) => this.#deliver(records),
      revoke: (records) => this.#revoke(records),
      lost: (records) => this.#lost(records),
      stalled: () => {},
      notice: (error) => this.notices.push(error.message),
    };
    try {
      const parts = {
        client: cluster.client(() => this.dead),
        openMember: (_: unknown, owner: Parameters<SimulatedGroup["join"]>[1]) => {
          this.#member = this.#group.join(this, owner) as SimulatedMember;
          return this.#member;
        },
        decode: (bytes: Buffer, { from }: { readonly from: number }) => {
          const decoded = cluster.pieces.decode(bytes, from);
          return this.#prng.chance(0.2) ? this.#later(decoded) : decoded;
        },
        clock: this.clock,
        random: this.#prng,
        drainMs: 1_000,
      };
      this.#consumer = await openConsumer(parts, { group: "g", topics, ...this.#options }, sink);
      this.#consumer.prefetch(this.#prefetch);
    } catch {
      this.kill();
    }
  }

  #later<Value>(value: Value): Promise<Value> {
    return new Promise((resolve) => this.clock.schedule(() => resolve(value), this.#prng.between(0, 5)));
  }

  kill(): void {
    if (this.dead) return;
    this.dead = true;
    this.clock.kill();
    if (this.#member !== undefined) this.#group.killed(this.#member);
    this.#onKilled(this);
  }

  async close(): Promise<void> {
    // What is unsettled is given up, and that counts for nothing.
    this.#out.clear();
    await this.#consumer?.close();
    if (this.dead) return;
    this.dead = true;
    this.clock.kill();
    this.#onKilled(this);
  }

  setPrefetch(count: number): void {
    this.#prefetch = count;
    this.#consumer?.prefetch(count);
  }

  /** It is about to read a partition from where that is committed. */
  begins(key: string): void {
    for (const life of this.#highest.keys()) if (life.startsWith(`${key} of `)) this.#highest.delete(life);
    for (const released of this.#released) if (released.startsWith(`${key} of `)) this.#released.delete(released);
  }

  /** The coordinator gave up on it for a partition: whatever it holds there comes again. */
  lostHold(key: string): void {
    for (const out of this.#out.values()) if (out.key === key && !out.fate.settled) out.fate.crashes++;
  }

  #deliver(records: readonly DeliveredRecord[]): void {
    if (this.dead) return;
    for (const held of records) {
      const key = partitionKey(held);
      const { offset, timestamp } = held.record;
      const id = topicId(held.topic, timestamp);
      const life = lifeOf(held, id);
      const fate = this.#judge.fate(life, offset);
      fate.delivered = true;
      this.#checkOrder(life, offset);
      // One that does not know yet that it lost the partition may hand out what another one settled.
      if (this.#group.hold(key)?.member === this.#member) {
        this.#judge.delivered(life, offset, held.crashes);
        this.#checkReach(key, offset, id);
      }
      this.#out.set(held, { held, key, life, fate, settling: false });
      this.#begin(held, fate);
      if (this.dead) return;
    }
    // Those that were settled just before are told so in the same turn.
    const prefetch = this.#prefetch;
    const keys = new Set(records.map(partitionKey));
    this.#group.cluster.time.schedule(() => this.#checkWindow(prefetch, keys), 0);
  }

  #checkOrder(key: string, offset: number): void {
    const highest = this.#highest.get(key) ?? -1;
    if (offset > highest) this.#highest.set(key, offset);
    else if (!this.#released.delete(`${key}@${offset}`)) {
      this.#judge.violate(`${this.name} got ${key}@${offset} after ${highest}`);
    }
  }

  #checkReach(key: string, offset: number, id: string): void {
    const stored = this.#group.stored.get(key);
    // Its topic may have been deleted since.
    if (this.#group.cluster.logs.get(key)?.topicId !== id) return;
    const { progress, of } = decodeProgress(stored ?? { offset: -1, metadata: "" });
    const watermark = of?.id === id ? progress.watermark : -1;
    if (offset >= watermark)
      this.#judge.violate(`${this.name} got ${key}@${offset}, and ${watermark} was committed as its watermark`);
  }

  #checkWindow(prefetch: number, filled: ReadonlySet<string>): void {
    if (this.dead) return;
    const counts = new Map<string, number>();
    for (const { key } of this.#out.values()) if (filled.has(key)) counts.set(key, (counts.get(key) ?? 0) + 1);
    const most = this.#options.prefetchPer === "consumer" ? this.#out.size : Math.max(0, ...counts.values());
    if (most > prefetch && this.#prefetch === prefetch) {
      this.#judge.violate(`${this.name} held ${most} with a prefetch of ${prefetch}`);
    }
  }

  #begin(held: DeliveredRecord, fate: Fate): void {
    const prng = this.#prng;
    if (fate.poisonous && held.crashes < PUT_AWAY_FROM) {
      this.clock.schedule(
        () => {
          if (this.#out.has(held)) this.kill();
        },
        prng.between(0, 20),
      );
      return;
    }
    const slow = prng.chance(0.03) ? 3_000 : prng.chance(0.2) ? 100 : 5;
    const never = !this.#group.cluster.calm && prng.chance(0.005);
    this.clock.schedule(() => this.#end(held), never ? 60_000 : prng.between(0, slow));
  }

  #end(held: DeliveredRecord): void {
    const out = this.#out.get(held);
    const action = this.#prng.chance(0.1) ? "requeue" : "ack";
    if (action === "ack" && out !== undefined && !out.settling) out.fate.acked = true;
    this.#settle(held, action);
    // A second settlement does nothing.
    if (this.#prng.chance(0.02)) this.#settle(held, this.#prng.pick(["ack", "requeue"]));
  }

  #settle(held: DeliveredRecord, action: Settlement["action"]): void {
    if (this.#settling.length === 0) queueMicrotask(() => this.#flush());
    this.#settling.push({ token: held, action });
  }

  #flush(): void {
    const batch = this.#settling;
    this.#settling = [];
    const first = batch.map(({ token, action }) => {
      const out = this.#out.get(token as DeliveredRecord);
      if (out === undefined || out.settling) return undefined;
      out.settling = true;
      if (action === "requeue") {
        this.#out.delete(out.held);
        this.#released.add(`${out.life}@${out.held.record.offset}`);
      }
      return out;
    });
    this.#consumer?.settle(batch).then((results) => {
      if (this.dead) return;
      for (const [index, result] of results.entries()) this.#settled(first[index], batch[index]?.action, result);
    });
  }

  #settled(out: Out | undefined, action: Settlement["action"] | undefined, result: SettleResult): void {
    if (out === undefined) {
      if (result === "settled") this.#judge.violate(`${this.name} settled something a second time`);
    } else if (action === "ack") {
      this.#out.delete(out.held);
      if (result === "settled") out.fate.settled = true;
    }
  }

  #revoke(records: readonly DeliveredRecord[]): void {
    for (const held of records) if (this.#out.has(held) && this.#prng.chance(0.6)) this.#settle(held, "requeue");
  }

  #lost(records: readonly DeliveredRecord[]): void {
    for (const held of records) this.#out.delete(held);
  }
}
