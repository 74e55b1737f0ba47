import type { IncomingMessage } from "../../core/adapter.ts";
import type { DeadLettersAddress } from "../../core/address.ts";
import type { BrokerInternals } from "../../core/broker-internals.ts";
import { DeadLetter, type Source } from "./dead-letter.ts";
import { Holder } from "./receiver.ts";

/** How long nothing must arrive before the depth is requested, and how often that must be 0. */
interface Proof {
  readonly waitMs: number;
  readonly times: number;
}

const EXACT: Proof = { waitMs: 20, times: 1 };
const INEXACT: Proof = { waitMs: 100, times: 3 };
/** Brokers with leases are distributed, and may deliver nothing although messages are stored. */
const APPROXIMATE: Proof = { waitMs: 500, times: 4 };
/** How long to wait for deliveries that others may hold, if the broker does not report them. */
const UNREPORTED_MS = 2_000;
/** How long the broker may count a consumer that has left. */
const LEAVING_MS = 1_000;

/**
 * Detects that a holder gets no more messages: nothing arrived for a while, and the broker reported a depth of 0 often
 * enough. Waits within `patienceMs` for what others hold, and for a stalled receiver.
 */
export class DrainDetection {
  readonly #internals: BrokerInternals;
  readonly #address: DeadLettersAddress;
  readonly #holder: Holder;
  readonly #patienceMs: number;
  readonly #othersMs: number;
  #elsewhere: number | null = 0;
  #since: number;
  #emptyReports = 0;
  #proof: Proof | undefined;

  /** `othersMs` is how long to wait for what others hold. */
  constructor(
    internals: BrokerInternals,
    address: DeadLettersAddress,
    holder: Holder,
    patienceMs: number,
    othersMs = patienceMs,
  ) {
    this.#internals = internals;
    this.#address = address;
    this.#holder = holder;
    this.#patienceMs = patienceMs;
    this.#othersMs = Math.min(othersMs, patienceMs);
    this.#since = internals.clock.monotonic();
  }

  /** How long to wait for a message before each {@link check}. */
  get waitMs(): number {
    return (this.#proof ?? (this.#holder.leased ? APPROXIMATE : EXACT)).waitMs;
  }

  /**
   * How many messages others held at the last check; null if other consumers exist and the broker does not report how many
   * they hold.
   */
  get elsewhere(): number | null {
    return this.#elsewhere;
  }

  /** A message arrived: starts over. */
  restart(): void {
    this.#since = this.#internals.clock.monotonic();
    this.#emptyReports = 0;
  }

  /**
   * Asks the broker once.
   * - `all`: nothing is left, and no other process is known to hold any.
   * - `others`: others hold what is left, or it cannot be delivered now, and the time to wait has passed.
   * - `unreported`: as `all`, with entries `missing` on a broker that does not report what others hold.
   */
  async check(missing = false): Promise<"no" | "all" | "others" | "unreported"> {
    const { adapter, clock } = this.#internals;
    const { ready, unsettled, consumers, exact } = await adapter.depth(this.#address);
    this.#proof = exact ? EXACT : this.#holder.leased ? APPROXIMATE : INEXACT;
    if (ready > 0) this.#emptyReports = 0;
    else this.#emptyReports++;
    const silentMs = clock.monotonic() - this.#since;
    const elsewhere = unsettled !== undefined && unsettled > this.#holder.held;
    const othersConsume = consumers !== undefined && consumers > this.#holder.consumers;
    if (unsettled !== undefined) this.#elsewhere = Math.max(unsettled - this.#holder.held, 0);
    else this.#elsewhere = othersConsume ? null : 0;
    // What a stalled receiver cannot get is neither ready nor in flight, and is delivered later.
    const isStalled = this.#holder.stalled !== undefined;
    if (ready === 0 && !elsewhere && !isStalled && this.#emptyReports >= this.#proof.times) {
      // Other consumers may still hold what is missing.
      const unreported = missing && unsettled === undefined;
      const waitMs = unreported ? UNREPORTED_MS : othersConsume ? LEAVING_MS : 0;
      if (silentMs >= Math.min(waitMs, this.#patienceMs)) {
        if (await this.#holder.caughtUp()) return unreported ? "unreported" : "all";
      }
    }
    const onlyOthers = ready === 0 && elsewhere && this.#emptyReports >= this.#proof.times;
    return silentMs >= (onlyOthers ? this.#othersMs : this.#patienceMs) ? "others" : "no";
  }
}

/** How a scan went. */
export interface DeadLetterScan {
  /**
   * Whether the scan took and requeued the dead letters, because the broker cannot browse. During such a scan no other
   * process gets them, and the broker counts a delivery of each.
   */
  readonly held: boolean;
  /**
   * Whether every dead letter was read exactly once, as far as the broker reports. False while others hold some or some
   * cannot be read, and after a lost connection or lease.
   */
  readonly complete: boolean;
  /**
   * How many dead letters others hold, such as a run; null if others may hold some and the broker does not report how many.
   */
  readonly elsewhere: number | null;
}

interface ScanOptions {
  /** How long to wait for slow deliveries, in milliseconds. */
  readonly patienceMs: number;
  /** How long to wait for what others hold, in milliseconds. Default: `patienceMs`. */
  readonly othersMs?: number;
  readonly signal?: AbortSignal;
}

/** Yields every dead letter in batches, with one batch in memory at a time. Returns how the scan went. */
export async function* scan(
  internals: BrokerInternals,
  source: Source,
  options: ScanOptions,
): AsyncGenerator<readonly DeadLetter[], DeadLetterScan, undefined> {
  const { browse } = internals.adapter;
  const letters = (batch: readonly IncomingMessage[]): DeadLetter[] =>
    batch.map((message) => new DeadLetter(message, source.name));
  if (browse !== undefined) {
    let complete = true;
    for await (const batch of browse.call(internals.adapter, source.deadLetters)) {
      options.signal?.throwIfAborted();
      // An unreadable message represents dead letters that the adapter could not read.
      const readable = batch.filter(({ unreadable }) => unreadable === undefined);
      complete &&= readable.length === batch.length;
      yield letters(readable);
    }
    return { held: false, complete, elsewhere: 0 };
  }
  return yield* scanByReceiving(internals, source, options, letters);
}

async function* scanByReceiving(
  internals: BrokerInternals,
  source: Source,
  { patienceMs, othersMs, signal }: ScanOptions,
  letters: (batch: readonly IncomingMessage[]) => DeadLetter[],
): AsyncGenerator<readonly DeadLetter[], DeadLetterScan, undefined> {
  const holder = await Holder.open(internals, source.deadLetters);
  try {
    const drain = new DrainDetection(internals, source.deadLetters, holder, patienceMs, othersMs);
    for (;;) {
      const batch = await holder.take(drain.waitMs, signal);
      signal?.throwIfAborted();
      if (batch.length > 0) {
        drain.restart();
        yield letters(batch.map(({ message }) => message));
        for (const taken of batch) holder.keep(taken);
        continue;
      }
      const end = await drain.check();
      // Lost deliveries are delivered again, and may have been read twice.
      const { elsewhere } = drain;
      if (end !== "no") return { held: true, complete: end === "all" && elsewhere === 0 && !holder.hasLost, elsewhere };
    }
  } finally {
    await holder.close();
  }
}

/** Visits every dead letter, one after another. */
export async function scanAll(
  internals: BrokerInternals,
  source: Source,
  options: ScanOptions,
  visit: (letter: DeadLetter) => void | Promise<void>,
): Promise<DeadLetterScan> {
  const scanning = scan(internals, source, options);
  try {
    for (;;) {
      const { done, value } = await scanning.next();
      if (done) return value;
      for (const letter of value) {
        const visited = visit(letter);
        if (visited !== undefined) await visited;
      }
    }
  } finally {
    // Requeues what is held if the visit threw.
    await scanning.return({ held: false, complete: false, elsewhere: null });
  }
}

/** The time between two scans. */
const FIRST_SCAN_MS = 250;
const LONGEST_SCAN_MS = 5_000;

/** Finds out which entries of a plan are left, on a broker that can browse. */
export class Remaining {
  readonly #internals: BrokerInternals;
  readonly #source: Source;
  readonly #patienceMs: number;
  readonly #signal: AbortSignal | undefined;
  #waitMs = FIRST_SCAN_MS;
  #since: number;

  constructor(internals: BrokerInternals, source: Source, patienceMs: number, signal: AbortSignal | undefined) {
    this.#internals = internals;
    this.#source = source;
    this.#patienceMs = patienceMs;
    this.#signal = signal;
    this.#since = internals.clock.monotonic();
  }

  get canBrowse(): boolean {
    return this.#internals.adapter.browse !== undefined;
  }

  get waitMs(): number | undefined {
    return this.canBrowse ? this.#waitMs : undefined;
  }

  restart(): void {
    this.#since = this.#internals.clock.monotonic();
    this.#waitMs = FIRST_SCAN_MS;
  }

  /**
   * Calls `gone` for each entry that is certainly gone. Returns `held` if the others were not delivered for
   * `patienceMs`.
   */
  async scan(pending: Iterable<string>, gone: (id: string) => void): Promise<"held" | "wait"> {
    const patienceMs = this.#patienceMs;
    const left = new Set(pending);
    const options = { patienceMs, ...(this.#signal === undefined ? {} : { signal: this.#signal }) };
    let isComplete: boolean;
    try {
      const visit = (letter: DeadLetter): void => void left.delete(letter.id);
      isComplete = (await scanAll(this.#internals, this.#source, options, visit)).complete;
    } catch (error) {
      if (this.#signal?.aborted) return "wait";
      throw error;
    }
    if (isComplete) for (const id of left) gone(id);
    this.#waitMs = Math.min(this.#waitMs * 2, LONGEST_SCAN_MS);
    return this.#internals.clock.monotonic() - this.#since > patienceMs ? "held" : "wait";
  }
}
