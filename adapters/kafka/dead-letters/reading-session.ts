import type { Settlement, SettleResult } from "../../../core/adapter.ts";
import type { Clock, Random } from "../../../core/clock.ts";
import { isMessagingError, MessagingError } from "../../../core/errors.ts";
import { backoffMs } from "../../../core/retry-policy.ts";
import type { HeldRecord, RecordSink } from "../consuming/contract.ts";
import { RETRY } from "../delays/backoff.ts";
import type { LogRecord } from "../records/contract.ts";
import { replacedMeanwhile } from "../topic-identity.ts";
import { BodyReader } from "./body-reader.ts";
import type { Log, Piece } from "./contract.ts";
import { restoredRecord } from "./dead-letter-record.ts";
import { Entries, type Entry } from "./entries.ts";
import { asText } from "./entry-key.ts";
import { Pauses } from "./pauses.ts";
import { keyless, STALE_AFTER_MS, unreadableEntries } from "./reading.ts";
import type { Remover } from "./remover.ts";

/** What a session works with. */
export interface SessionParts {
  /** Followed to its end and beyond. Closed with the session. */
  readonly log: Log;
  /** The same log, to look things up in while the other waits for more. Closed with the session. */
  readonly bodies: Log;
  readonly remover: Remover;
  readonly clock: Clock;
  readonly random: Pick<Random, "fraction">;
  readonly sink: RecordSink;
  /** What it says no to stays in the hands of this session, without a place in the prefetch, and is not delivered. */
  readonly wanted?: (held: HeldRecord) => boolean;
  /** What was read is not to be trusted any more: ends this session and begins another. */
  startOver(cause: MessagingError): void;
}

const LONG_POLL_MS = 5_000;

/**
 * Has the dead letters of a topic for a while: reads the log once to its end to know what stands, then delivers that, and
 * what comes, under the prefetch.
 */
export class ReadingSession {
  readonly #parts: SessionParts;
  readonly #entries = new Entries();
  readonly #held = new Map<HeldRecord, Entry>();
  readonly #bodies: BodyReader;
  #prefetch: number;
  #position: number | undefined;
  /** When the position last was the end of the log, or began, by both clocks. */
  #fresh: { readonly at: number; readonly monotonic: number };
  #isAtEnd = false;
  #isHanding = false;
  #removing = 0;
  #isPaused = false;
  #isEnded = false;
  readonly #pauses: Pauses;
  #closing: Promise<unknown> | undefined;
  readonly #waiting: (() => void)[] = [];

  constructor(parts: SessionParts, prefetch: number) {
    this.#parts = parts;
    this.#prefetch = prefetch;
    this.#bodies = new BodyReader(parts.bodies);
    this.#pauses = new Pauses(parts.clock);
    this.#fresh = this.#now();
  }

  start(): void {
    void this.#follow();
  }

  prefetch(count: number): void {
    this.#prefetch = count;
    void this.#hand();
  }

  holds(token: unknown): boolean {
    return this.#held.has(token as HeldRecord);
  }

  async settle(batch: readonly Settlement[]): Promise<readonly SettleResult[]> {
    const results = batch.map((settlement) => this.#settle(settlement));
    void this.#hand();
    return Promise.all(results);
  }

  #settle({ token, action }: Settlement): SettleResult | Promise<SettleResult> {
    const held = token as HeldRecord;
    const entry = this.#held.get(held);
    if (entry === undefined) return "fenced";
    this.#held.delete(held);
    if (action === "ack") return this.#remove(entry);
    this.#entries.giveBack(entry);
    this.#changed();
    return "settled";
  }

  async #remove(entry: Entry): Promise<SettleResult> {
    this.#removing++;
    const isRemoved = await this.#parts.remover.remove(entry.copies.map(({ key }) => key));
    this.#removing--;
    if (isRemoved) this.#entries.finish(entry);
    this.#changed();
    void this.#hand();
    return isRemoved ? "settled" : "fenced";
  }

  /** Delivers nothing more and asks for what is held. Resolves when nothing is, or the session ended. */
  async drain(): Promise<void> {
    this.#isPaused = true;
    if (this.#held.size > 0) this.#parts.sink.revoke([...this.#held.keys()]);
    await this.#until(() => this.#held.size === 0 && this.#removing === 0);
  }

  /** Delivers nothing more. Resolves when no removal is under way, or the session ended. */
  async stop(): Promise<void> {
    this.#isPaused = true;
    await this.#until(() => this.#removing === 0);
  }

  /** Ends it, and closes the logs. Returns what was held. A second call finds nothing. */
  end(): readonly HeldRecord[] {
    const { log, bodies, remover } = this.#parts;
    this.#isEnded = true;
    remover.end();
    this.#closing ??= Promise.allSettled([log.close(), bodies.close()]);
    this.#pauses.end();
    this.#changed();
    const held = [...this.#held.keys()];
    this.#held.clear();
    return held;
  }

  /** Resolves when the logs are closed that {@link end} closes. */
  async closed(): Promise<void> {
    await this.#closing;
  }

  #changed(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }

  async #until(condition: () => boolean): Promise<void> {
    while (!this.#isEnded && !condition()) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  async #follow(): Promise<void> {
    const { log } = this.#parts;
    for (let failures = 1; !this.#isEnded; ) {
      try {
        const from: number = this.#position ?? (await this.#begin());
        const piece = await log.read(from, LONG_POLL_MS);
        if (!this.#isEnded) this.#take(from, piece);
        failures = 1;
      } catch (error) {
        await this.#failed(error, failures++);
      }
    }
  }

  /** Both logs have to be of the same topic. */
  async #begin(): Promise<number> {
    const { log, bodies } = this.#parts;
    const [from] = await Promise.all([log.first(), bodies.first()]);
    if (log.topicId !== bodies.topicId) throw replacedMeanwhile(log.topic);
    return from;
  }

  #take(from: number, piece: Piece | "out-of-range"): void {
    const { log, sink, startOver } = this.#parts;
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
    void this.#hand();
  }

  /** Delivers what the prefetch has room for. */
  async #hand(): Promise<void> {
    if (this.#isHanding) return;
    this.#isHanding = true;
    let failures = 1;
    let batch: HeldRecord[] = [];
    const deliver = (): void => {
      const records = batch;
      batch = [];
      if (records.length > 0) this.#parts.sink.deliver(records);
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
        if (this.#isEnded) break;
        // Meanwhile asked back, or the record was removed.
        if (this.#isPaused || lastOffset(entry) !== offset) this.#entries.giveBack(entry);
        else if ("record" in found) batch.push(...this.#hold(entry, found.record));
        else {
          if (found.gone !== undefined) this.#parts.sink.notice(found.gone);
          // A tombstone follows, or somebody deleted it from the log.
          this.#entries.finish(entry);
        }
      } catch (error) {
        this.#entries.giveBack(entry);
        await this.#failed(error, failures++);
      }
    }
    this.#isHanding = false;
    if (!this.#isEnded) deliver();
  }

  #mayTake(): boolean {
    return !this.#isEnded && !this.#isPaused && this.#isAtEnd && this.#held.size + this.#removing < this.#prefetch;
  }

  #hold(entry: Entry, record: LogRecord): readonly HeldRecord[] {
    const { topic, partition } = this.#parts.log;
    const held: HeldRecord = { topic, partition, record: restoredRecord(record), deaths: 0 };
    if (this.#parts.wanted?.(held) === false) return [];
    this.#held.set(held, entry);
    return [held];
  }

  async #failed(error: unknown, failures: number): Promise<void> {
    if (this.#isEnded) return;
    const { random, sink, log } = this.#parts;
    const text = `the dead letters in "${log.topic}" cannot be read; it is tried again`;
    sink.stalled(isMessagingError(error) ? error : new MessagingError("unreachable", text, { cause: error }));
    await this.#pauses.wait(backoffMs(failures, RETRY, random));
  }

  #now(): { readonly at: number; readonly monotonic: number } {
    const { clock } = this.#parts;
    return { at: clock.now(), monotonic: clock.monotonic() };
  }
}

function lastOffset({ copies }: Entry): number {
  return copies.at(-1)?.offset ?? -1;
}
