import type { Receiver, SendResult } from "../../../core/adapter.ts";
import type { Timer } from "../../../core/clock.ts";
import { isMessagingError, MessagingError } from "../../../core/errors.ts";
import { backoffMs } from "../../../core/retry-policy.ts";
import type { HeldRecord, RecordSink } from "../consuming/contract.ts";
import type { RecordToSend } from "../producing/contract.ts";
import { Agenda } from "./agenda.ts";
import { PATIENT_RETRY, RETRY } from "./backoff.ts";
import type { DelayedDestination, ForwarderHost } from "./contract.ts";
import { type Delay, delayedRecord, delayOf, undelayedRecord } from "./delayed-record.ts";
import { leavesAt } from "./levels.ts";
import { Notices } from "./notices.ts";
import { Opening } from "./opening.ts";
import { ReadAhead } from "./read-ahead.ts";
import { Settling } from "./settling.ts";

interface Waiting {
  readonly held: HeldRecord;
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
const LONGEST_SLEEP_MS = 10_000;
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
  readonly #host: ForwarderHost;
  readonly #of: DelayedDestination;
  readonly #agenda: Agenda<Waiting>;
  readonly #notices: Notices;
  readonly #settling = new Settling();
  readonly #readAhead = new ReadAhead();
  readonly #waiting = new Map<HeldRecord, Waiting>();
  readonly #opening: Opening<Receiver>;
  readonly #ready: Promise<void>;
  #consumer: Receiver | undefined;
  #prefetch: number;
  #closing: Promise<void> | undefined;

  /** Begins to read, and tries until it can or is closed. */
  constructor(host: ForwarderHost, of: DelayedDestination) {
    this.#host = host;
    this.#of = of;
    this.#agenda = new Agenda(host.clock, (items) => this.#onTime(items));
    this.#notices = new Notices(host.clock, (error) => host.notice(error));
    this.#prefetch = this.#readAhead.prefetch;
    this.#opening = new Opening(
      host.clock,
      host.random,
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
    const { clock } = this.#host;
    this.#opening.stop();
    this.#agenda.retain(() => false);
    await this.#ready;
    for (const [held, waiting] of this.#waiting) if (!waiting.isSending) this.#waiting.delete(held);
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
      notice: (error) => this.#host.notice(error),
    };
    const prefetch = this.#readAhead.prefetch;
    const options = { group, topics: [delays], prefetch, prefetchPer: "partition" } as const;
    return this.#host.openConsumer(options, sink);
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
    this.#notices.tell("reading", because(text, cause), PATIENCE_MS);
  }

  #deliver(records: readonly HeldRecord[]): void {
    if (this.#closing !== undefined) return;
    this.#notices.over("reading");
    const receivedAt = this.#host.clock.now();
    for (const held of records) {
      const { record, partition } = held;
      const delay = delayOf(record);
      if (delay === undefined) this.#tellForeign(held);
      const waiting: Waiting = {
        held,
        delay,
        partition: delay?.partition,
        leavesAt: delay === undefined ? 0 : leavesAt({ ...delay, level: partition, receivedAt }),
        failures: 0,
        notBefore: 0,
        at: 0,
        isSending: false,
        isRevoked: false,
      };
      this.#waiting.set(held, waiting);
      this.#put(waiting);
      this.#readAhead.arrived((record.value?.length ?? 0) + (record.key?.length ?? 0));
    }
    this.#agenda.arm();
    if (this.#readAhead.prefetch !== this.#prefetch) this.#consumer?.prefetch(this.#readAhead.prefetch);
    this.#prefetch = this.#readAhead.prefetch;
  }

  #tellForeign({ record, partition }: HeldRecord): void {
    const { topic, delays } = this.#of;
    const text = `offset ${record.offset} of "${delays}", partition ${partition}, says no time at which it is due, so somebody else wrote it; it goes to "${topic}" at once`;
    this.#notices.tell("foreign", new MessagingError("invalid", text, { cause: record.problem }));
  }

  #put(waiting: Waiting): void {
    const { clock } = this.#host;
    const sleepMs = Math.min(Math.max(waiting.leavesAt - clock.now(), 0), LONGEST_SLEEP_MS);
    waiting.at = Math.max(waiting.notBefore, clock.monotonic() + sleepMs);
    this.#agenda.add(waiting);
  }

  #onTime(items: readonly Waiting[]): void {
    const now = this.#host.clock.now();
    const due: Waiting[] = [];
    const further: Waiting[] = [];
    for (const waiting of items) {
      if (now < waiting.leavesAt) this.#put(waiting);
      else if (waiting.delay === undefined || waiting.delay.dueAt <= now) due.push(waiting);
      else further.push(waiting);
    }
    due.sort((one, other) => one.leavesAt - other.leavesAt || one.held.record.offset - other.held.record.offset);
    const { topic, delays } = this.#of;
    this.#send(topic, due, ({ held, partition }) => undelayedRecord(held.record, partition));
    this.#send(delays, further, ({ held, delay, partition }) => {
      const record = undelayedRecord(held.record, partition);
      return delayedRecord(record, delay?.dueAt ?? now, now);
    });
  }

  #send(topic: string, items: readonly Waiting[], make: (waiting: Waiting) => RecordToSend): void {
    if (items.length === 0) return;
    for (const waiting of items) waiting.isSending = true;
    this.#host.producer.send(topic, items.map(make), (index, result) =>
      this.#sent(topic, items[index] as Waiting, result),
    );
  }

  #sent(topic: string, waiting: Waiting, result: SendResult): void {
    const { held } = waiting;
    waiting.isSending = false;
    // Lost meanwhile: whoever has it now sends it again.
    if (this.#waiting.get(held) !== waiting) return;
    if (result.status === "confirmed") {
      this.#notices.over(topic);
      this.#finish(held, "ack");
      return;
    }
    this.#tellUnsent(topic, result);
    if (this.#closing !== undefined || waiting.isRevoked) {
      this.#finish(held, "requeue");
      return;
    }
    // Its own partition may never have been there; it must not hold up those behind it for that.
    if (result.status === "rejected" && isMessagingError(result.error, "not-found")) waiting.partition = undefined;
    const { clock, random } = this.#host;
    const times = result.status === "rejected" ? PATIENT_RETRY : RETRY;
    waiting.notBefore = clock.monotonic() + backoffMs(++waiting.failures, times, random);
    this.#put(waiting);
    this.#agenda.arm();
  }

  #tellUnsent(topic: string, result: Exclude<SendResult, { status: "confirmed" }>): void {
    const { topic: destination, delays } = this.#of;
    const stays = `it stays in "${delays}" and is tried again`;
    const what = `a delayed message for "${destination}" was`;
    if (result.status === "rejected") {
      const text = `${what} refused by "${topic}"; ${stays}`;
      this.#notices.tell(`${topic} refuses`, because(text, result.error));
    } else {
      const text = `${what} not confirmed by "${topic}"; ${stays}`;
      this.#notices.tell(topic, because(text, result.cause), PATIENCE_MS);
    }
  }

  #finish(held: HeldRecord, action: "ack" | "requeue"): void {
    this.#waiting.delete(held);
    this.#settling.settle(held, action);
  }

  #revoke(records: readonly HeldRecord[]): void {
    for (const held of records) {
      const waiting = this.#waiting.get(held);
      if (waiting === undefined) continue;
      waiting.isRevoked = true;
      if (!waiting.isSending) this.#finish(held, "requeue");
    }
    this.#agenda.retain(({ held }) => this.#waiting.has(held));
  }

  #lost(records: readonly HeldRecord[]): void {
    for (const held of records) this.#waiting.delete(held);
    this.#agenda.retain(({ held }) => this.#waiting.has(held));
    this.#settling.check();
  }
}

function because(text: string, cause: unknown): MessagingError {
  return new MessagingError(isMessagingError(cause) ? cause.code : "unconfirmed", text, { cause });
}
