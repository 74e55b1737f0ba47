import type { DeadLettersDependencies, Log, Piece } from "../../../adapters/kafka/dead-letters/partition-log.ts";
import type { GroupMember, RebalanceListener } from "../../../adapters/kafka/group/coordinator.ts";
import type { Producer, RecordToSend } from "../../../adapters/kafka/producing/producer.ts";
import type { LogRecord, UnreadableBatch } from "../../../adapters/kafka/records/contract.ts";
import type { SendResult } from "../../../core/adapter.ts";
import type { Clock, Random } from "../../../core/clock.ts";
import { MessagingError } from "../../../core/errors.ts";
import type { VirtualTime } from "../../simulation/virtual-time.ts";
import { topicId } from "../topic-ids.ts";

export const TOPIC = "orders.dlq";
const MAX_AT_ONCE = 3;
const PARTITIONS = [{ topic: TOPIC, partition: 0 }];

/** A compacted topic of one partition, and the group of those who receive from it. */
export class FakeDeadLetters {
  readonly time: VirtualTime;
  records: LogRecord[] = [];
  end = 0;
  first = 0;
  /** How many topics of the name there have been. */
  life = 1;
  openLogs = 0;
  reads = 0;
  /** How many records were read in all, bodies included. */
  recordsRead = 0;
  answer: (record: RecordToSend) => SendResult | "stored-but-unknown" = () => ({ status: "confirmed" });
  latency: () => number = () => 1;
  /** Thrown by reads while set. */
  failure: MessagingError | undefined;
  unreadable: UnreadableBatch | undefined;
  /** Where an open transaction begins. */
  openFrom: number | undefined;
  readonly #members: FakeMember[] = [];
  readonly #readers = new Set<() => void>();

  constructor(time: VirtualTime) {
    this.time = time;
  }

  readonly producer: Producer = {
    send: (_topic, records, report) => {
      for (const [index, record] of records.entries()) {
        const answer = this.answer(record);
        this.time.schedule(() => {
          if (answer === "stored-but-unknown") {
            this.append(record);
            report(index, { status: "unknown", cause: new Error("the connection broke") });
            return;
          }
          if (answer.status === "confirmed") this.append(record);
          report(index, answer);
        }, this.latency());
      }
    },
  };

  append({ key, value, headers }: RecordToSend): LogRecord {
    const bytes: Record<string, Buffer> = Object.create(null);
    for (const [name, text] of headers) bytes[name] = Buffer.from(text ?? "");
    const record: LogRecord = {
      offset: this.end++,
      timestamp: 0,
      key: key === undefined ? undefined : Buffer.from(key),
      value: value === undefined ? undefined : Buffer.from(value),
      headers: bytes,
    };
    this.records.push(record);
    for (const wake of [...this.#readers]) wake();
    return record;
  }

  /** Leaves the last record of each key, but for what stands from an offset on; tombstones too, if told. */
  compact(to = this.end, withTombstones = false): void {
    const last = new Map(this.records.map(({ key, offset }) => [key?.toString("latin1"), offset]));
    this.records = this.records.filter(
      ({ key, offset, value }) =>
        offset >= to || (last.get(key?.toString("latin1")) === offset && !(withTombstones && value === undefined)),
    );
  }

  /** The topic is deleted and made anew. */
  recreate(): void {
    this.records = [];
    this.end = 0;
    this.first = 0;
    this.life++;
    for (const wake of [...this.#readers]) wake();
  }

  openLog(clock: Clock): Log {
    let isClosed = false;
    let life: number | undefined;
    this.openLogs++;
    const closers = new Set<() => void>();
    const checkOpen = (): void => {
      if (isClosed) throw new MessagingError("closed", "closed");
      if (this.failure !== undefined) throw this.failure;
    };
    const pass = (ms: number, more: boolean): Promise<void> =>
      new Promise((resolve) => {
        const end = (): void => {
          clock.cancel(timer);
          this.#readers.delete(end);
          closers.delete(end);
          resolve();
        };
        const timer = clock.schedule(end, ms);
        if (more) this.#readers.add(end);
        closers.add(end);
      });
    return {
      topic: TOPIC,
      partition: 0,
      get topicId() {
        return life === undefined ? undefined : topicId(TOPIC, life);
      },
      first: async () => {
        await pass(this.latency(), false);
        checkOpen();
        life = this.life;
        return this.first;
      },
      end: async () => {
        await pass(this.latency(), false);
        checkOpen();
        return this.end;
      },
      read: async (from, maxWaitMs): Promise<Piece | "out-of-range"> => {
        this.reads++;
        await pass(this.latency(), false);
        checkOpen();
        life ??= this.life;
        if (life !== this.life || from < this.first || from > this.end) return "out-of-range";
        if (from === this.end && maxWaitMs > 0) await pass(maxWaitMs, true);
        checkOpen();
        if (life !== this.life || from > this.end) return "out-of-range";
        return this.#piece(from);
      },
      close: async () => {
        if (!isClosed) this.openLogs--;
        isClosed = true;
        for (const end of closers) end();
      },
    };
  }

  #piece(from: number): Piece {
    const { unreadable, openFrom } = this;
    const end = openFrom ?? this.end;
    const openTransaction = end < this.end;
    const records = this.records.filter(({ offset }) => offset >= from && offset < end).slice(0, MAX_AT_ONCE);
    const last = records.at(-1);
    const nextOffset = records.length < MAX_AT_ONCE || last === undefined ? end : last.offset + 1;
    this.recordsRead += records.length;
    if (unreadable === undefined || unreadable.offset < from || unreadable.offset >= nextOffset) {
      return { records, nextOffset, end, openTransaction, unreadable: undefined };
    }
    const before = records.filter(({ offset }) => offset < unreadable.offset);
    return { records: before, nextOffset: unreadable.offset, end, openTransaction, unreadable };
  }

  host(clock: Clock, random: Random): DeadLettersDependencies {
    return {
      producer: this.producer,
      clock,
      random,
      openLog: () => this.openLog(clock),
      join: (owner) => {
        const member = new FakeMember(this, owner);
        this.#members.push(member);
        this.time.schedule(() => this.#assign(), 1);
        return member;
      },
    };
  }

  /** Whoever has the dead letters now. */
  get owner(): FakeMember | undefined {
    return this.#members.find(({ isOwner }) => isOwner);
  }

  left(member: FakeMember): void {
    const index = this.#members.indexOf(member);
    if (index >= 0) this.#members.splice(index, 1);
    this.time.schedule(() => this.#assign(), 1);
  }

  /** The group hands over to another member, or the same. */
  async handOver(): Promise<void> {
    const { owner } = this;
    if (owner === undefined) return;
    await owner.owner.revoke(PARTITIONS);
    if (!owner.isOwner) return;
    owner.isOwner = false;
    this.#members.push(...this.#members.splice(0, 1));
    this.#assign();
  }

  /** The owner's session ends without it. */
  expire(): void {
    const { owner } = this;
    if (owner === undefined) return;
    owner.isOwner = false;
    owner.owner.lost(PARTITIONS, new MessagingError("unreachable", "the session ended"));
    this.#members.push(...this.#members.splice(this.#members.indexOf(owner), 1));
    this.#assign();
  }

  #assign(): void {
    const [next] = this.#members;
    if (this.owner !== undefined || next === undefined) return;
    next.isOwner = true;
    next.owner.assigned(PARTITIONS);
  }
}

export class FakeMember implements GroupMember {
  readonly complete = Promise.resolve();
  readonly owner: RebalanceListener;
  readonly #group: FakeDeadLetters;
  isOwner = false;

  constructor(group: FakeDeadLetters, owner: RebalanceListener) {
    this.#group = group;
    this.owner = owner;
  }

  commit(): Promise<never> {
    throw new Error("dead letters commit nothing");
  }

  committed(): Promise<never> {
    throw new Error("dead letters commit nothing");
  }

  refresh(): void {}

  async close(): Promise<void> {
    this.isOwner = false;
    this.#group.left(this);
  }
}
