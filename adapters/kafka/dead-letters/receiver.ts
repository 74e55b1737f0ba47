import type { DeliveryToken, Receiver, SendResult, Settlement, SettleResult } from "../../../core/adapter.ts";
import { afterCurrentTurn, type Clock, pause, type Random, type Timer, within } from "../../../core/clock.ts";
import { isMessagingError, MessagingError } from "../../../core/errors.ts";
import { backoffMs } from "../../../core/retry-policy.ts";
import type { RecordSink } from "../consuming/assigned-partition.ts";
import type { DeliveredRecord } from "../consuming/partition-ledger.ts";
import { RETRY, RepeatedNotices } from "../delays/forwarder.ts";
import { firstAssignment, type GroupMember } from "../group/coordinator.ts";
import { replacedMeanwhile } from "../names.ts";
import type { TopicPartition } from "../port.ts";
import type { Producer } from "../producing/producer.ts";
import type { LogRecord } from "../records/contract.ts";
import type { DeadLettersDependencies, Log, Piece } from "./partition-log.ts";
import {
  asText,
  Entries,
  type Entry,
  keyless,
  PARTITION,
  restoredRecord,
  STALE_AFTER_MS,
  tombstone,
  unreadableEntries,
} from "./records.ts";
import { BodyReader } from "./references.ts";

interface Removal {
  readonly key: string;
  readonly done: (removed: boolean) => void;
  failures: number;
}

/** What a remover needs. */
interface RemoverDependencies {
  readonly topic: string;
  readonly producer: Producer;
  readonly clock: Clock;
  readonly random: Pick<Random, "fraction">;
  /** Some removals failed and are retried. Called at most every 30 s. */
  failed(cause: MessagingError): void;
}

/** Removes records by tombstones, each retried until it is confirmed. */
export class Remover {
  readonly #dependencies: RemoverDependencies;
  readonly #timers = new Set<Timer>();
  readonly #open = new Set<Removal>();
  readonly #notices: RepeatedNotices;
  #batch: Removal[] = [];
  #isEnded = false;

  constructor(dependencies: RemoverDependencies) {
    this.#dependencies = dependencies;
    this.#notices = new RepeatedNotices(dependencies.clock, (error) => dependencies.failed(error));
  }

  /** Resolves with true once all keys are removed; false if that is unknown at the end. */
  async remove(keys: readonly string[]): Promise<boolean> {
    const removed = await Promise.all(keys.map((key) => this.#remove(key)));
    return removed.every(Boolean);
  }

  /** Ends retries. An attempt under way may still succeed. */
  end(): void {
    this.#isEnded = true;
    for (const timer of this.#timers) this.#dependencies.clock.cancel(timer);
    for (const removal of [...this.#open]) this.#finish(removal, false);
  }

  #remove(key: string): Promise<boolean> {
    if (this.#isEnded) return Promise.resolve(false);
    return new Promise((done) => {
      const removal = { key, done, failures: 0 };
      this.#open.add(removal);
      this.#write(removal);
    });
  }

  /** Removals of one turn are sent in one batch. */
  #write(removal: Removal): void {
    this.#batch.push(removal);
    if (this.#batch.length > 1) return;
    afterCurrentTurn(() => {
      const batch = this.#batch;
      this.#batch = [];
      if (this.#isEnded) return;
      const { topic, producer } = this.#dependencies;
      const records = batch.map(({ key }) => tombstone(key));
      producer.send(topic, records, (index, result) => this.#written(batch[index] as Removal, result));
    });
  }

  #written(removal: Removal, result: SendResult): void {
    if (!this.#open.has(removal)) return;
    if (result.status === "confirmed") {
      this.#finish(removal, true);
      return;
    }
    const { clock, random, topic } = this.#dependencies;
    const cause = result.status === "rejected" ? result.error : result.cause;
    const timer = clock.schedule(
      () => {
        this.#timers.delete(timer);
        this.#write(removal);
      },
      backoffMs(++removal.failures, RETRY, random),
    );
    this.#timers.add(timer);
    const code = isMessagingError(cause) ? cause.code : "unconfirmed";
    const text = `entries of "${topic}" could not be removed; they stay until a further try removes them`;
    this.#notices.report("removing", new MessagingError(code, text, { cause }));
  }

  #finish(removal: Removal, removed: boolean): void {
    this.#open.delete(removal);
    removal.done(removed);
  }
}

/** What a reading session needs. */
interface ReadingSessionDependencies {
  /** Read to its end and followed. Closed with the session. */
  readonly log: Log;
  /** The same log, for reading bodies while `log` waits for records. Closed with the session. */
  readonly bodies: Log;
  readonly remover: Remover;
  readonly clock: Clock;
  readonly random: Pick<Random, "fraction">;
  readonly sink: RecordSink;
  /** Dead letters for which it is false stay with this session, outside the prefetch, and are not delivered. */
  readonly wanted?: (delivered: DeliveredRecord) => boolean;
  /** The state is out of date: ends this session and starts another. */
  startOver(cause: MessagingError): void;
}

const LONG_POLL_MS = 5_000;

/**
 * One session with the dead letters: reads the log to its end to know the current ones, then delivers these and new
 * ones, up to the prefetch.
 */
class ReadingSession {
  readonly #dependencies: ReadingSessionDependencies;
  readonly #entries = new Entries();
  readonly #inFlight = new Map<DeliveredRecord, Entry>();
  readonly #bodies: BodyReader;
  #prefetch: number;
  #position: number | undefined;
  /** When the position was last at the end of the log, by both clocks. */
  #fresh: { readonly at: number; readonly monotonic: number };
  #isAtEnd = false;
  #isDelivering = false;
  #removing = 0;
  #isPaused = false;
  readonly #ended = new AbortController();
  #closing: Promise<unknown> | undefined;
  readonly #waiting: (() => void)[] = [];

  constructor(dependencies: ReadingSessionDependencies, prefetch: number) {
    this.#dependencies = dependencies;
    this.#prefetch = prefetch;
    this.#bodies = new BodyReader(dependencies.bodies);
    this.#fresh = this.#now();
  }

  start(): void {
    void this.#follow();
  }

  prefetch(count: number): void {
    this.#prefetch = count;
    void this.#deliver();
  }

  holds(token: unknown): boolean {
    return this.#inFlight.has(token as DeliveredRecord);
  }

  async settle(batch: readonly Settlement[]): Promise<readonly SettleResult[]> {
    const results = batch.map((settlement) => this.#settle(settlement));
    void this.#deliver();
    return Promise.all(results);
  }

  #settle({ token, action }: Settlement): SettleResult | Promise<SettleResult> {
    const delivered = token as DeliveredRecord;
    const entry = this.#inFlight.get(delivered);
    if (entry === undefined) return "fenced";
    this.#inFlight.delete(delivered);
    if (action === "ack") return this.#remove(entry);
    this.#entries.requeue(entry);
    this.#changed();
    return "settled";
  }

  async #remove(entry: Entry): Promise<SettleResult> {
    this.#removing++;
    const isRemoved = await this.#dependencies.remover.remove(entry.copies.map(({ key }) => key));
    this.#removing--;
    if (isRemoved) this.#entries.finish(entry);
    this.#changed();
    void this.#deliver();
    return isRemoved ? "settled" : "fenced";
  }

  /** Delivers no more and revokes what is in flight. Resolves when nothing is, or the session ended. */
  async drain(): Promise<void> {
    this.#isPaused = true;
    if (this.#inFlight.size > 0) this.#dependencies.sink.revoke([...this.#inFlight.keys()]);
    await this.#until(() => this.#inFlight.size === 0 && this.#removing === 0);
  }

  /** Delivers no more. Resolves when no removal is under way, or the session ended. */
  async stop(): Promise<void> {
    this.#isPaused = true;
    await this.#until(() => this.#removing === 0);
  }

  /** Ends the session and closes the logs. Returns what was in flight. A second call returns nothing. */
  end(): readonly DeliveredRecord[] {
    const { log, bodies, remover } = this.#dependencies;
    this.#ended.abort();
    remover.end();
    this.#closing ??= Promise.allSettled([log.close(), bodies.close()]);
    this.#changed();
    const delivered = [...this.#inFlight.keys()];
    this.#inFlight.clear();
    return delivered;
  }

  /** Resolves when {@link end} has closed the logs. */
  async closed(): Promise<void> {
    await this.#closing;
  }

  #changed(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  async #until(condition: () => boolean): Promise<void> {
    while (!this.#ended.signal.aborted && !condition())
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  async #follow(): Promise<void> {
    const { log } = this.#dependencies;
    for (let failures = 1; !this.#ended.signal.aborted; ) {
      try {
        const from: number = this.#position ?? (await this.#begin());
        const piece = await log.read(from, LONG_POLL_MS);
        if (!this.#ended.signal.aborted) this.#take(from, piece);
        failures = 1;
      } catch (error) {
        await this.#failed(error, failures++);
      }
    }
  }

  /** Both logs must be of the same topic. */
  async #begin(): Promise<number> {
    const { log, bodies } = this.#dependencies;
    const [from] = await Promise.all([log.first(), bodies.first()]);
    if (log.topicId !== bodies.topicId) throw replacedMeanwhile(log.topic);
    return from;
  }

  #take(from: number, piece: Piece | "out-of-range"): void {
    const { log, sink, startOver } = this.#dependencies;
    const now = this.#now();
    const silentMs = Math.max(now.at - this.#fresh.at, now.monotonic - this.#fresh.monotonic);
    if (piece === "out-of-range" || silentMs > STALE_AFTER_MS) {
      const why = piece === "out-of-range" ? "its log was made anew or cut" : "nothing could be read for too long";
      startOver(new MessagingError("conflict", `"${log.topic}" is read from its beginning again: ${why}`));
      return;
    }
    const { records, nextOffset, end, unreadable } = piece;
    for (const { key, value, offset } of records) {
      if (key === undefined) sink.notice(keyless(log, offset));
      else if (value === undefined) this.#entries.remove(asText(key));
      else this.#entries.put(asText(key), offset);
    }
    this.#position = nextOffset;
    if (unreadable !== undefined && nextOffset === from) {
      if (unreadable.resumeAt === undefined) throw unreadable.error;
      sink.notice(unreadableEntries(log, unreadable));
      this.#position = unreadable.resumeAt;
    }
    this.#isAtEnd = this.#position >= end;
    if (records.length > 0) this.#bodies.offer(from, piece);
    if (!this.#isAtEnd) return;
    this.#fresh = now;
    void this.#deliver();
  }

  /** Delivers up to the prefetch. */
  async #deliver(): Promise<void> {
    if (this.#isDelivering) return;
    this.#isDelivering = true;
    let failures = 1;
    let batch: DeliveredRecord[] = [];
    const deliver = (): void => {
      const records = batch;
      batch = [];
      if (records.length > 0) this.#dependencies.sink.deliver(records);
    };
    while (this.#mayTake()) {
      const entry = this.#entries.take();
      if (entry === undefined) break;
      const offset = lastOffset(entry);
      try {
        let found = this.#bodies.kept(offset);
        if (found === undefined) {
          deliver();
          found = await this.#bodies.find(offset);
          failures = 1;
        }
        if (this.#ended.signal.aborted) break;
        // Revoked or removed meanwhile.
        if (this.#isPaused || lastOffset(entry) !== offset) this.#entries.requeue(entry);
        else if ("record" in found) batch.push(...this.#takeOut(entry, found.record));
        else {
          if (found.gone !== undefined) this.#dependencies.sink.notice(found.gone);
          // A tombstone follows, or the record was deleted.
          this.#entries.finish(entry);
        }
      } catch (error) {
        this.#entries.requeue(entry);
        await this.#failed(error, failures++);
      }
    }
    this.#isDelivering = false;
    if (!this.#ended.signal.aborted) deliver();
  }

  #mayTake(): boolean {
    return (
      !this.#ended.signal.aborted &&
      !this.#isPaused &&
      this.#isAtEnd &&
      this.#inFlight.size + this.#removing < this.#prefetch
    );
  }

  #takeOut(entry: Entry, record: LogRecord): readonly DeliveredRecord[] {
    const { topic, partition, topicId } = this.#dependencies.log;
    const delivered: DeliveredRecord = { topic, partition, topicId, record: restoredRecord(record), crashes: 0 };
    if (this.#dependencies.wanted?.(delivered) === false) return [];
    this.#inFlight.set(delivered, entry);
    return [delivered];
  }

  async #failed(error: unknown, failures: number): Promise<void> {
    if (this.#ended.signal.aborted) return;
    const { clock, random, sink, log } = this.#dependencies;
    const text = `the dead letters in "${log.topic}" cannot be read; it is tried again`;
    sink.stalled(isMessagingError(error) ? error : new MessagingError("unreachable", text, { cause: error }));
    await pause(clock, backoffMs(failures, RETRY, random), this.#ended.signal);
  }

  #now(): { readonly at: number; readonly monotonic: number } {
    const { clock } = this.#dependencies;
    return { at: clock.now(), monotonic: clock.monotonic() };
  }
}

function lastOffset({ copies }: Entry): number {
  return copies.at(-1)?.offset ?? -1;
}

const CLOSE_MS = 5_000;

/**
 * Receives dead letters in order. One receiver at a time has them; others wait and take over. An ack removes an entry,
 * once that is confirmed. Requeued entries, and those of a receiver that ends, are kept. Records are their own tokens.
 *
 * Rejects with `not-found` for a missing topic, `conflict` if other clients use its group, or the reason why it cannot
 * be read.
 */
export async function receiveDeadLetters(
  dependencies: DeadLettersDependencies,
  prefetch: number,
  sink: RecordSink,
): Promise<Receiver> {
  const log = dependencies.openLog();
  try {
    await log.first();
  } finally {
    await log.close();
  }
  const receiver = new DeadLettersReceiver(dependencies, prefetch, sink);
  try {
    await receiver.joined();
  } catch (error) {
    await receiver.close();
    throw error;
  }
  return receiver;
}

class DeadLettersReceiver implements Receiver {
  readonly leaseMs = undefined;
  readonly #dependencies: DeadLettersDependencies;
  readonly #sink: RecordSink;
  readonly #member: GroupMember;
  #prefetch: number;
  #session: ReadingSession | undefined;
  #closing: Promise<void> | undefined;

  constructor(dependencies: DeadLettersDependencies, prefetch: number, sink: RecordSink) {
    this.#dependencies = dependencies;
    this.#prefetch = prefetch;
    this.#sink = sink;
    this.#member = dependencies.join({
      assigned: (partitions) => {
        if (has(partitions) && this.#closing === undefined) this.#begin();
      },
      revoke: (partitions) => (has(partitions) ? this.#handOver() : Promise.resolve()),
      lost: (partitions, cause) => {
        if (has(partitions)) this.#lose(cause);
      },
      failed: (cause) => sink.stalled(cause),
    });
  }

  /** Resolves at the first assignment, or after a timeout. */
  joined(): Promise<void> {
    return firstAssignment(this.#dependencies.clock, this.#member);
  }

  prefetch(count: number): void {
    this.#prefetch = count;
    this.#session?.prefetch(count);
  }

  settle(batch: readonly Settlement[]): Promise<readonly SettleResult[]> {
    return this.#session?.settle(batch) ?? Promise.resolve(batch.map(() => "fenced" as const));
  }

  extend(batch: readonly DeliveryToken[]): Promise<readonly boolean[]> {
    return Promise.resolve(batch.map((token) => this.#session?.holds(token) ?? false));
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const { clock } = this.#dependencies;
    const session = this.#session;
    if (session !== undefined) {
      await within(clock, CLOSE_MS, session.stop());
    }
    const last = this.#session;
    last?.end();
    this.#session = undefined;
    await this.#member.close();
    await last?.closed();
  }

  #begin(): void {
    this.#session?.end();
    const { producer, clock, random, wanted } = this.#dependencies;
    const failed = (cause: MessagingError): void => this.#sink.stalled(cause);
    const log = this.#dependencies.openLog();
    const session = new ReadingSession(
      {
        log,
        bodies: this.#dependencies.openLog(),
        remover: new Remover({ topic: log.topic, producer, clock, random, failed }),
        clock,
        random,
        sink: this.#sink,
        ...(wanted === undefined ? {} : { wanted }),
        startOver: (cause) => {
          this.#sink.notice(cause);
          this.#lose(cause);
          if (this.#closing === undefined) this.#begin();
        },
      },
      this.#prefetch,
    );
    this.#session = session;
    session.start();
  }

  async #handOver(): Promise<void> {
    const session = this.#session;
    await session?.drain();
    if (this.#session !== session) return;
    session?.end();
    this.#session = undefined;
  }

  #lose(cause: MessagingError): void {
    const delivered = this.#session?.end() ?? [];
    this.#session = undefined;
    if (delivered.length > 0) this.#sink.lost(delivered, cause);
  }
}

function has(partitions: readonly TopicPartition[]): boolean {
  return partitions.some(({ partition }) => partition === PARTITION);
}
