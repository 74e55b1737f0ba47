import type { Receiver, SendResult, Settlement } from "../../../core/adapter.ts";
import type { DeadLettersAddress } from "../../../core/address.ts";
import { afterCurrentTurn, type Clock, pause, type Random, type Timer, within } from "../../../core/clock.ts";
import { isMessagingError, MessagingError } from "../../../core/errors.ts";
import { type BackoffTimes, backoffMs } from "../../../core/retry-policy.ts";
import type { ConsumerOptions, RecordConsumer, RecordSink } from "../consuming/assigned-partition.ts";
import type { DeliveredRecord } from "../consuming/partition-ledger.ts";
import { deadLetterRecord } from "../dead-letters/records.ts";
import { unreadableLetter } from "../dead-letters/references.ts";
import { topicName } from "../names.ts";
import type { Producer, RecordToSend } from "../producing/producer.ts";
import { type Delay, delayedRecord, delayOf, leavesAt, undelayedRecord } from "./levels.ts";

/** Between retries after a broker failure: seconds at most, to continue soon after it. */
export const RETRY: BackoffTimes = Object.freeze({ firstMs: 200, maxMs: 3_000 });
/** Between retries that are unlikely to help soon. */
const PATIENT_RETRY: BackoffTimes = Object.freeze({ firstMs: 200, maxMs: 30_000 });

/** What a forwarder needs. */
export interface ForwarderDependencies {
  readonly producer: Producer;
  /** The machine's clock: `now` decides whether a message is due. */
  readonly clock: Clock;
  readonly random: Pick<Random, "fraction" | "bytes">;
  /** Whether to go on behind an unreadable batch. Otherwise its level stops. */
  readonly passesUnreadable: boolean;
  /** Starts to read. Rejects if the first subscription fails. */
  openConsumer(options: ConsumerOptions, sink: RecordSink): Promise<RecordConsumer>;
  /** Finds which records dead letters refer to; see {@link ConsumerOptions.references}. */
  references(of: DeadLettersAddress): Promise<ReadonlyMap<string, number>>;
  /**
   * Reports due messages that cannot be sent: after 10 s, or at once if they are refused; each problem at most every 30
   * s.
   */
  notice(error: MessagingError): void;
}

/** The destination of delayed messages. */
interface DelayedDestination {
  /** The topic for due messages. */
  readonly topic: string;
  /** The topic of waiting messages, with a partition per level. */
  readonly delays: string;
  readonly group: string;
  /** For references to unreadable batches; undefined for events, which have none. */
  readonly deadLetters: DeadLettersAddress | undefined;
}

/** An item of a timer queue. `at` is on the monotonic clock and must not change in the queue. */
interface Timed {
  at: number;
}

/** Calls `due` with the items whose time has come, earliest first, with one timer for all. */
class TimerQueue<Item extends Timed> {
  readonly #clock: Clock;
  readonly #due: (items: readonly Item[]) => void;
  /** A binary heap, the earliest first. */
  #heap: Item[] = [];
  #timer: Timer | undefined;
  #timerAt = Number.POSITIVE_INFINITY;

  constructor(clock: Clock, due: (items: readonly Item[]) => void) {
    this.#clock = clock;
    this.#due = due;
  }

  get size(): number {
    return this.#heap.length;
  }

  /** Adds an item. Call {@link arm} afterwards. */
  add(item: Item): void {
    const heap = this.#heap;
    let index = heap.push(item) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if ((heap[parent] as Item).at <= item.at) break;
      heap[index] = heap[parent] as Item;
      index = parent;
    }
    heap[index] = item;
  }

  /** Sets the timer for the earliest item. */
  arm(): void {
    const at = this.#heap[0]?.at ?? Number.POSITIVE_INFINITY;
    if (at === this.#timerAt) return;
    if (this.#timer !== undefined) this.#clock.cancel(this.#timer);
    this.#timerAt = at;
    const ms = Math.max(0, at - this.#clock.monotonic());
    this.#timer = at === Number.POSITIVE_INFINITY ? undefined : this.#clock.schedule(() => this.#fire(), ms);
  }

  /** Removes the items for which `stays` is false. */
  retain(stays: (item: Item) => boolean): void {
    const staying = this.#heap.filter(stays);
    this.#heap = [];
    for (const item of staying) this.add(item);
    this.arm();
  }

  #fire(): void {
    this.#timer = undefined;
    this.#timerAt = Number.POSITIVE_INFINITY;
    const now = this.#clock.monotonic();
    const items: Item[] = [];
    while (this.#heap.length > 0 && (this.#heap[0] as Item).at <= now) items.push(this.#take());
    if (items.length > 0) this.#due(items);
    this.arm();
  }

  #take(): Item {
    const heap = this.#heap;
    const first = heap[0] as Item;
    const last = heap.pop() as Item;
    if (heap.length === 0) return first;
    let index = 0;
    for (;;) {
      let child = index * 2 + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && (heap[child + 1] as Item).at < (heap[child] as Item).at) child++;
      if ((heap[child] as Item).at >= last.at) break;
      heap[index] = heap[child] as Item;
      index = child;
    }
    heap[index] = last;
    return first;
  }
}

const MAX_RECORDS = 2_048;
const MAX_BYTES = 8 * 1024 * 1024;

/** Chooses the prefetch per level by record size: enough to send in batches, few if they are large. */
class ReadAhead {
  #averageBytes = 0;
  #prefetch = MAX_RECORDS;

  get prefetch(): number {
    return this.#prefetch;
  }

  /** Learns the size of a record. */
  arrived(bytes: number): void {
    // Larger sizes count at once, smaller ones over time.
    this.#averageBytes = Math.max(bytes, this.#averageBytes * 0.99 + bytes * 0.01);
    const fitting = Math.max(1, MAX_BYTES / Math.max(this.#averageBytes, 1));
    // A power of two, so that the prefetch seldom changes.
    this.#prefetch = Math.min(MAX_RECORDS, 2 ** Math.floor(Math.log2(fitting)));
  }
}

const EVERY_MS = 30_000;

interface Problem {
  since: number;
  reportedAt: number;
}

/** Reports repeating problems: each kind at most every 30 s while it lasts. */
export class RepeatedNotices {
  readonly #clock: Clock;
  readonly #notice: (error: MessagingError) => void;
  readonly #problems = new Map<string, Problem>();

  constructor(clock: Clock, notice: (error: MessagingError) => void) {
    this.#clock = clock;
    this.#notice = notice;
  }

  /** Reports a problem, if it has lasted for `patienceMs` milliseconds. */
  report(kind: string, error: MessagingError, patienceMs = 0): void {
    const now = this.#clock.monotonic();
    const problem = this.#problems.get(kind) ?? { since: now, reportedAt: Number.NEGATIVE_INFINITY };
    this.#problems.set(kind, problem);
    problem.since = Math.min(problem.since, now);
    if (now - problem.since < patienceMs || now - problem.reportedAt < EVERY_MS) return;
    problem.reportedAt = now;
    this.#notice(error);
  }

  /** The problem is over; its patience starts anew. */
  over(kind: string): void {
    const problem = this.#problems.get(kind);
    if (problem !== undefined) problem.since = Number.POSITIVE_INFINITY;
  }
}

/** Gathers the settlements of one turn into one call. */
class Settling {
  #consumer: Receiver | undefined;
  #batch: Settlement[] = [];
  #underWay = 0;
  #isScheduled = false;
  readonly #waiting: (() => void)[] = [];

  open(consumer: Receiver): void {
    this.#consumer = consumer;
    if (this.#batch.length > 0) this.#schedule();
  }

  settle(token: DeliveredRecord, action: Settlement["action"]): void {
    this.#batch.push({ token, action });
    this.#schedule();
  }

  /** Resolves when nothing waits or is under way and the condition holds. */
  async idle(condition: () => boolean): Promise<void> {
    while (this.#batch.length > 0 || this.#underWay > 0 || !condition()) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  /** Checks the awaited condition again. */
  check(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  #schedule(): void {
    if (this.#isScheduled || this.#consumer === undefined) return;
    this.#isScheduled = true;
    afterCurrentTurn(() => void this.#flush());
  }

  async #flush(): Promise<void> {
    this.#isScheduled = false;
    const batch = this.#batch;
    this.#batch = [];
    this.#underWay++;
    // Deliveries that are no longer ours come again elsewhere, and their messages are sent twice.
    await this.#consumer?.settle(batch);
    this.#underWay--;
    this.check();
  }
}

interface Waiting {
  readonly delivered: DeliveredRecord;
  /** Undefined for a foreign record. */
  readonly delay: Delay | undefined;
  /** The chosen partition of the destination, unless it does not exist. */
  partition: number | undefined;
  /** When it leaves its level, in milliseconds since 1970. */
  readonly leavesAt: number;
  failures: number;
  /** When the next attempt may start, on the monotonic clock. */
  notBefore: number;
  at: number;
  isSending: boolean;
  isRevoked: boolean;
  /** Ends the writing of a reference to the record, if one is under way. */
  endReference: (() => void) | undefined;
}

/** The wall clock may be set while a timer runs, so due times are checked this often. */
const MAX_SLEEP_MS = 10_000;
const CLOSE_MS = 5_000;
/** Shorter failures are not reported, such as a restarting broker or a new group. */
const PATIENCE_MS = 10_000;

/**
 * Forwards delayed messages: to their destination when they are due, or to a lower level while a second or more
 * remains. Settles only confirmed messages: a crash may duplicate a message and never loses one. Retries without limit,
 * and reports lasting failures. An unreadable batch stays in the log, and becomes a dead letter that refers to it.
 *
 * Never early by the hosts' clocks: the sender's clock set the due time, and this one is compared with it. Hosts must
 * keep the time (NTP).
 */
export class DelayForwarder {
  readonly #dependencies: ForwarderDependencies;
  readonly #of: DelayedDestination;
  readonly #timers: TimerQueue<Waiting>;
  readonly #notices: RepeatedNotices;
  readonly #settling = new Settling();
  readonly #readAhead = new ReadAhead();
  readonly #waiting = new Map<DeliveredRecord, Waiting>();
  readonly #stopped = new AbortController();
  readonly #ready: Promise<void>;
  #consumer: RecordConsumer | undefined;
  #prefetch: number;
  #closing: Promise<void> | undefined;

  /** Starts to read, with retries until it succeeds or is closed. */
  constructor(dependencies: ForwarderDependencies, of: DelayedDestination) {
    this.#dependencies = dependencies;
    this.#of = of;
    this.#timers = new TimerQueue(dependencies.clock, (items) => this.#onTime(items));
    this.#notices = new RepeatedNotices(dependencies.clock, (error) => dependencies.notice(error));
    this.#prefetch = this.#readAhead.prefetch;
    this.#ready = this.#openWithRetries().then((consumer) => this.#opened(consumer));
  }

  /** Stops reading. Waits up to 5 s for messages being sent; the others stay on the broker. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    this.#stopped.abort();
    this.#timers.retain(() => false);
    await this.#ready;
    for (const [delivered, waiting] of this.#waiting) if (!waiting.isSending) this.#waiting.delete(delivered);
    this.#consumer?.prefetch(0);
    const idle = this.#settling.idle(() => this.#waiting.size === 0);
    await within(this.#dependencies.clock, CLOSE_MS, idle);
    this.#waiting.clear();
    await this.#consumer?.close();
  }

  async #openWithRetries(): Promise<RecordConsumer | undefined> {
    const { clock, random } = this.#dependencies;
    const { signal } = this.#stopped;
    for (let failures = 1; !signal.aborted; failures++) {
      try {
        return await this.#open();
      } catch (cause) {
        this.#cannotRead(cause);
      }
      await pause(clock, backoffMs(failures, RETRY, random), signal);
    }
    return undefined;
  }

  #open(): Promise<RecordConsumer> {
    const { group, delays, deadLetters } = this.#of;
    const sink: RecordSink = {
      deliver: (records) => this.#deliver(records),
      revoke: (records) => this.#revoke(records),
      lost: (records) => this.#lost(records),
      stalled: (cause) => this.#cannotRead(cause),
      notice: (error) => this.#dependencies.notice(error),
    };
    const { passesUnreadable: deliversUnreadable, references } = this.#dependencies;
    const prefetch = this.#readAhead.prefetch;
    const options = { group, topics: [delays], prefetch, prefetchPer: "partition", deliversUnreadable } as const;
    const reviewed = deadLetters === undefined ? options : { ...options, references: () => references(deadLetters) };
    return this.#dependencies.openConsumer(reviewed, sink);
  }

  #opened(consumer: RecordConsumer | undefined): void {
    if (consumer === undefined) return;
    this.#consumer = consumer;
    this.#settling.open(consumer);
    // Records may have arrived before.
    consumer.prefetch(this.#closing === undefined ? this.#prefetch : 0);
  }

  #cannotRead(cause: unknown): void {
    const { topic, delays } = this.#of;
    const text = `delayed messages for "${topic}" wait longer than asked for: "${delays}" cannot be read; it is tried again`;
    this.#notices.report("reading", because(text, cause), PATIENCE_MS);
  }

  #deliver(records: readonly DeliveredRecord[]): void {
    if (this.#closing !== undefined) return;
    this.#notices.over("reading");
    const receivedAt = this.#dependencies.clock.now();
    for (const delivered of records) {
      const { record, partition } = delivered;
      const delay = delayOf(record);
      if (record.unreadable !== undefined) this.#reportUnreadable(delivered, record.unreadable.error);
      else if (delay === undefined) this.#reportForeign(delivered);
      const waiting: Waiting = {
        delivered,
        delay,
        partition: delay?.partition,
        leavesAt: delay === undefined ? 0 : leavesAt({ ...delay, level: partition, receivedAt }),
        failures: 0,
        notBefore: 0,
        at: 0,
        isSending: false,
        isRevoked: false,
        endReference: undefined,
      };
      this.#waiting.set(delivered, waiting);
      this.#put(waiting);
      this.#readAhead.arrived((record.value?.length ?? 0) + (record.key?.length ?? 0));
    }
    this.#timers.arm();
    if (this.#readAhead.prefetch !== this.#prefetch) this.#consumer?.prefetch(this.#readAhead.prefetch);
    this.#prefetch = this.#readAhead.prefetch;
  }

  #reportForeign({ record, partition }: DeliveredRecord): void {
    const { topic, delays } = this.#of;
    const text = `offset ${record.offset} of "${delays}", partition ${partition}, has no due time, so another sender wrote it; it goes to "${topic}" at once`;
    this.#notices.report("foreign", new MessagingError("invalid", text, { cause: record.problem }));
  }

  #reportUnreadable({ record, partition }: DeliveredRecord, cause: MessagingError): void {
    const { delays, deadLetters } = this.#of;
    const where = `offset ${record.offset} of "${delays}", partition ${partition}, cannot be read`;
    const what = deadLetters === undefined ? "no dead letter" : "a dead letter";
    const text = `${where}: ${what} refers to it; it stays there with everything behind it, and the next records are read`;
    this.#notices.report("unreadable", new MessagingError(cause.code, text, { cause }));
  }

  #put(waiting: Waiting): void {
    const { clock } = this.#dependencies;
    const sleepMs = Math.min(Math.max(waiting.leavesAt - clock.now(), 0), MAX_SLEEP_MS);
    waiting.at = Math.max(waiting.notBefore, clock.monotonic() + sleepMs);
    this.#timers.add(waiting);
  }

  #onTime(items: readonly Waiting[]): void {
    const now = this.#dependencies.clock.now();
    const due: Waiting[] = [];
    const further: Waiting[] = [];
    const unreadable: Waiting[] = [];
    for (const waiting of items) {
      if (waiting.delivered.record.unreadable !== undefined) unreadable.push(waiting);
      else if (now < waiting.leavesAt) this.#put(waiting);
      else if (waiting.delay === undefined || waiting.delay.dueAt <= now) due.push(waiting);
      else further.push(waiting);
    }
    due.sort(
      (one, other) => one.leavesAt - other.leavesAt || one.delivered.record.offset - other.delivered.record.offset,
    );
    const { topic, delays } = this.#of;
    this.#send(topic, due, ({ delivered, partition }) => undelayedRecord(delivered.record, partition));
    this.#send(delays, further, ({ delivered, delay, partition }) => {
      const record = undelayedRecord(delivered.record, partition);
      return delayedRecord(record, delay?.dueAt ?? now, now);
    });
    this.#passUnreadable(unreadable, now);
  }

  /** Keeps unreadable batches in the log, and goes on behind them once dead letters refer to them. */
  #passUnreadable(items: readonly Waiting[], now: number): void {
    const kept = items.filter((waiting) => this.#keep(waiting));
    const { deadLetters } = this.#of;
    if (deadLetters === undefined) {
      for (const { delivered } of kept) this.#finish(delivered, "ack");
      return;
    }
    this.#send(topicName(deadLetters), kept, ({ delivered }) =>
      deadLetterRecord(unreadableLetter(delivered, deadLetters.of, now), this.#dependencies.random),
    );
  }

  /** False if the record cannot be kept now; then it is tried again, unless it is not ours. */
  #keep(waiting: Waiting): boolean {
    if (waiting.endReference !== undefined) return true;
    waiting.endReference = this.#consumer?.keep(waiting.delivered);
    if (waiting.endReference !== undefined) return true;
    waiting.notBefore = this.#dependencies.clock.monotonic() + RETRY.firstMs;
    this.#put(waiting);
    return false;
  }

  #send(topic: string, items: readonly Waiting[], make: (waiting: Waiting) => RecordToSend): void {
    if (items.length === 0) return;
    for (const waiting of items) waiting.isSending = true;
    this.#dependencies.producer.send(topic, items.map(make), (index, result) =>
      this.#sent(topic, items[index] as Waiting, result),
    );
  }

  #sent(topic: string, waiting: Waiting, result: SendResult): void {
    const { delivered } = waiting;
    waiting.isSending = false;
    // Lost meanwhile: its new owner sends it again.
    if (this.#waiting.get(delivered) !== waiting) return;
    if (result.status === "confirmed") {
      this.#notices.over(topic);
      waiting.endReference?.();
      this.#finish(delivered, "ack");
      return;
    }
    this.#reportUnsent(topic, result);
    if (this.#closing !== undefined || waiting.isRevoked) {
      this.#finish(delivered, "requeue");
      return;
    }
    // The chosen partition may not exist; without it the message does not hold up those behind it.
    if (result.status === "rejected" && isMessagingError(result.error, "not-found")) waiting.partition = undefined;
    const { clock, random } = this.#dependencies;
    const times = result.status === "rejected" ? PATIENT_RETRY : RETRY;
    waiting.notBefore = clock.monotonic() + backoffMs(++waiting.failures, times, random);
    this.#put(waiting);
    this.#timers.arm();
  }

  #reportUnsent(topic: string, result: Exclude<SendResult, { status: "confirmed" }>): void {
    const { topic: destination, delays } = this.#of;
    const stays = `it stays in "${delays}" and is tried again`;
    const what = `a delayed message for "${destination}" was`;
    if (result.status === "rejected") {
      const text = `${what} refused by "${topic}"; ${stays}`;
      this.#notices.report(`${topic} refuses`, because(text, result.error));
    } else {
      const text = `${what} not confirmed by "${topic}"; ${stays}`;
      this.#notices.report(topic, because(text, result.cause), PATIENCE_MS);
    }
  }

  #finish(delivered: DeliveredRecord, action: "ack" | "requeue"): void {
    this.#waiting.delete(delivered);
    this.#settling.settle(delivered, action);
  }

  #revoke(records: readonly DeliveredRecord[]): void {
    for (const delivered of records) {
      const waiting = this.#waiting.get(delivered);
      if (waiting === undefined) continue;
      waiting.isRevoked = true;
      if (!waiting.isSending) this.#finish(delivered, "requeue");
    }
    this.#timers.retain(({ delivered }) => this.#waiting.has(delivered));
  }

  #lost(records: readonly DeliveredRecord[]): void {
    for (const delivered of records) this.#waiting.delete(delivered);
    this.#timers.retain(({ delivered }) => this.#waiting.has(delivered));
    this.#settling.check();
  }
}

function because(text: string, cause: unknown): MessagingError {
  return new MessagingError(isMessagingError(cause) ? cause.code : "unconfirmed", text, { cause });
}
