import type { Receiver, SendResult, Settlement } from "../../../core/adapter.ts";
import { afterCurrentTurn, type Clock, type Random, type Timer } from "../../../core/clock.ts";
import { isMessagingError, MessagingError } from "../../../core/errors.ts";
import { type BackoffTimes, backoffMs } from "../../../core/retry-policy.ts";
import type { ConsumerOptions, RecordSink } from "../consuming/assigned-partition.ts";
import type { DeliveredRecord } from "../consuming/partition-ledger.ts";
import type { Producer, RecordToSend } from "../producing/producer.ts";
import { type Delay, delayedRecord, delayOf, leavesAt, undelayedRecord } from "./levels.ts";

/** Between tries at what a broker delivered up: seconds at most, so that it goes on soon when the broker is back. */
export const RETRY: BackoffTimes = Object.freeze({ firstMs: 200, maxMs: 3_000 });
/** Between tries where trying again soon would hardly help. */
const PATIENT_RETRY: BackoffTimes = Object.freeze({ firstMs: 200, maxMs: 30_000 });

/** What a forwarder works with. */
export interface ForwarderDependencies {
  readonly producer: Producer;
  /** Of the machine: `now` decides whether a message is due. */
  readonly clock: Clock;
  readonly random: Pick<Random, "fraction">;
  /** Begins to read. Rejects if the first try to subscribe fails. */
  openConsumer(options: ConsumerOptions, sink: RecordSink): Promise<Receiver>;
  /**
   * Something that people should know: messages that are due and cannot be sent on, once that lasted 10 s or at once if
   * they were refused; each problem every 30 s at most.
   */
  notice(error: MessagingError): void;
}

/** Whose delays these are. */
export interface DelayedDestination {
  /** Where messages come out. */
  readonly topic: string;
  /** Where they wait: a topic with a partition per level. */
  readonly delays: string;
  readonly group: string;
}

/** Something to be done at a time; `at` is on the monotonic clock and does not change while it is in a queue. */
interface Timed {
  at: number;
}

/** Calls with what has come due, the earliest first; one timer, however much there is. */
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

  /** Takes items in. {@link arm} has to follow. */
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

  /** Sets the timer for the earliest. */
  arm(): void {
    const at = this.#heap[0]?.at ?? Number.POSITIVE_INFINITY;
    if (at === this.#timerAt) return;
    if (this.#timer !== undefined) this.#clock.cancel(this.#timer);
    this.#timerAt = at;
    const ms = Math.max(0, at - this.#clock.monotonic());
    this.#timer = at === Number.POSITIVE_INFINITY ? undefined : this.#clock.schedule(() => this.#fire(), ms);
  }

  /** Takes out what is not to stay. */
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

/** How many waiting records of a level are delivered: enough to send them on in batches, few where they are large. */
class ReadAhead {
  #averageBytes = 0;
  #prefetch = MAX_RECORDS;

  get prefetch(): number {
    return this.#prefetch;
  }

  /** Learns the size of a record. */
  arrived(bytes: number): void {
    // What is larger counts at once, what is smaller over time.
    this.#averageBytes = Math.max(bytes, this.#averageBytes * 0.99 + bytes * 0.01);
    const fitting = Math.max(1, MAX_BYTES / Math.max(this.#averageBytes, 1));
    // A power of two, so that the consumer is not told a new one with every record.
    this.#prefetch = Math.min(MAX_RECORDS, 2 ** Math.floor(Math.log2(fitting)));
  }
}

const EVERY_MS = 30_000;

interface Problem {
  since: number;
  reportedAt: number;
}

/** Tells people about troubles that repeat: each kind every 30 s at most, for as long as it lasts. */
export class RepeatedNotices {
  readonly #clock: Clock;
  readonly #notice: (error: MessagingError) => void;
  readonly #problems = new Map<string, Problem>();

  constructor(clock: Clock, notice: (error: MessagingError) => void) {
    this.#clock = clock;
    this.#notice = notice;
  }

  /** There is problem. With patience it is told if it lasted for so many milliseconds. */
  report(kind: string, error: MessagingError, patienceMs = 0): void {
    const now = this.#clock.monotonic();
    const problem = this.#problems.get(kind) ?? { since: now, reportedAt: Number.NEGATIVE_INFINITY };
    this.#problems.set(kind, problem);
    problem.since = Math.min(problem.since, now);
    if (now - problem.since < patienceMs || now - problem.reportedAt < EVERY_MS) return;
    problem.reportedAt = now;
    this.#notice(error);
  }

  /** That problem is over; patience begins anew. */
  over(kind: string): void {
    const problem = this.#problems.get(kind);
    if (problem !== undefined) problem.since = Number.POSITIVE_INFINITY;
  }
}

/** Opens something, and tries until it can or is told to stop. */
class RetriedOpening<Opened> {
  /** Resolves with what was opened; undefined if it was stopped before. */
  readonly opened: Promise<Opened | undefined>;
  readonly #clock: Clock;
  readonly #random: Pick<Random, "fraction">;
  #isStopped = false;
  #pause: { readonly timer: Timer; readonly end: () => void } | undefined;

  constructor(
    clock: Clock,
    random: Pick<Random, "fraction">,
    open: () => Promise<Opened>,
    failed: (cause: unknown) => void,
  ) {
    this.#clock = clock;
    this.#random = random;
    this.opened = this.#try(open, failed);
  }

  /** No further try; one under way may still succeed. */
  stop(): void {
    this.#isStopped = true;
    if (this.#pause === undefined) return;
    this.#clock.cancel(this.#pause.timer);
    this.#pause.end();
  }

  async #try(open: () => Promise<Opened>, failed: (cause: unknown) => void): Promise<Opened | undefined> {
    for (let failures = 1; !this.#isStopped; failures++) {
      try {
        return await open();
      } catch (cause) {
        failed(cause);
      }
      if (this.#isStopped) break;
      await new Promise<void>((end) => {
        const timer = this.#clock.schedule(end, backoffMs(failures, RETRY, this.#random));
        this.#pause = { timer, end };
      });
      this.#pause = undefined;
    }
    return undefined;
  }
}

/** Gathers what is settled within one turn into one call. */
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

  /** Looks again whether a condition holds that somebody waits for. */
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
    // What was not ours any more comes again elsewhere, and is sent twice; nothing can be done about it here.
    await this.#consumer?.settle(batch);
    this.#underWay--;
    this.check();
  }
}

interface Waiting {
  readonly delivered: DeliveredRecord;
  /** Undefined for what somebody else wrote. */
  readonly delay: Delay | undefined;
  /** That of the destination which it says, until there turns out to be none. */
  partition: number | undefined;
  /** When it leaves its level, as time of day. */
  readonly leavesAt: number;
  failures: number;
  /** On the monotonic clock: no further try before. */
  notBefore: number;
  at: number;
  isSending: boolean;
  isRevoked: boolean;
}

/** Timers run on another clock than the time of day, which may be set meanwhile: it is looked at this often. */
const MAX_SLEEP_MS = 10_000;
const CLOSE_MS = 5_000;
/** What is over sooner is not told: a broker that restarts, a group that is formed. */
const PATIENCE_MS = 10_000;

/**
 * Sends delayed messages on: to a lower level while a second or more remains, and when they are due to their destination.
 * Settled is only what was confirmed there, so that a crash may send a message twice and never loses one. A message that
 * cannot be sent on is tried again for as long as it takes, and reported.
 *
 * Never early by the clocks of the hosts: when it is due was said by the sender's, and it is compared with this one's. So
 * hosts have to keep the time (NTP); a message comes early by no more than their clocks differ.
 */
export class DelayForwarder {
  readonly #dependencies: ForwarderDependencies;
  readonly #of: DelayedDestination;
  readonly #timers: TimerQueue<Waiting>;
  readonly #notices: RepeatedNotices;
  readonly #settling = new Settling();
  readonly #readAhead = new ReadAhead();
  readonly #waiting = new Map<DeliveredRecord, Waiting>();
  readonly #opening: RetriedOpening<Receiver>;
  readonly #ready: Promise<void>;
  #consumer: Receiver | undefined;
  #prefetch: number;
  #closing: Promise<void> | undefined;

  /** Begins to read, and tries until it can or is closed. */
  constructor(dependencies: ForwarderDependencies, of: DelayedDestination) {
    this.#dependencies = dependencies;
    this.#of = of;
    this.#timers = new TimerQueue(dependencies.clock, (items) => this.#onTime(items));
    this.#notices = new RepeatedNotices(dependencies.clock, (error) => dependencies.notice(error));
    this.#prefetch = this.#readAhead.prefetch;
    this.#opening = new RetriedOpening(
      dependencies.clock,
      dependencies.random,
      () => this.#open(),
      (cause) => this.#cannotRead(cause),
    );
    this.#ready = this.#opening.opened.then((consumer) => this.#opened(consumer));
  }

  /** Stops reading. What is being sent on is waited for, 5 s at most; the rest waits on the broker. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const { clock } = this.#dependencies;
    this.#opening.stop();
    this.#timers.retain(() => false);
    await this.#ready;
    for (const [delivered, waiting] of this.#waiting) if (!waiting.isSending) this.#waiting.delete(delivered);
    this.#consumer?.prefetch(0);
    let timer: Timer | undefined;
    const tooLong = new Promise<void>((resolve) => {
      timer = clock.schedule(resolve, CLOSE_MS);
    });
    await Promise.race([this.#settling.idle(() => this.#waiting.size === 0), tooLong]);
    if (timer !== undefined) clock.cancel(timer);
    this.#waiting.clear();
    await this.#consumer?.close();
  }

  #open(): Promise<Receiver> {
    const { group, delays } = this.#of;
    const sink: RecordSink = {
      deliver: (records) => this.#deliver(records),
      revoke: (records) => this.#revoke(records),
      lost: (records) => this.#lost(records),
      stalled: (cause) => this.#cannotRead(cause),
      notice: (error) => this.#dependencies.notice(error),
    };
    const prefetch = this.#readAhead.prefetch;
    const options = { group, topics: [delays], prefetch, prefetchPer: "partition" } as const;
    return this.#dependencies.openConsumer(options, sink);
  }

  #opened(consumer: Receiver | undefined): void {
    if (consumer === undefined) return;
    this.#consumer = consumer;
    this.#settling.open(consumer);
    // Records may have come before.
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
      if (delay === undefined) this.#reportForeign(delivered);
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
    const text = `offset ${record.offset} of "${delays}", partition ${partition}, says no time at which it is due, so somebody else wrote it; it goes to "${topic}" at once`;
    this.#notices.report("foreign", new MessagingError("invalid", text, { cause: record.problem }));
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
    for (const waiting of items) {
      if (now < waiting.leavesAt) this.#put(waiting);
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
    // Lost meanwhile: whoever has it now sends it again.
    if (this.#waiting.get(delivered) !== waiting) return;
    if (result.status === "confirmed") {
      this.#notices.over(topic);
      this.#finish(delivered, "ack");
      return;
    }
    this.#reportUnsent(topic, result);
    if (this.#closing !== undefined || waiting.isRevoked) {
      this.#finish(delivered, "requeue");
      return;
    }
    // Its own partition may never have been there; it must not hold up those behind it for that.
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
