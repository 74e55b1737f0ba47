import type { IncomingMessage } from "../../core/adapter.ts";
import type { DeadLettersAddress } from "../../core/address.ts";
import type { BrokerInternals } from "../../core/broker-internals.ts";
import { DeadLetter, type Source } from "./dead-letter.ts";
import { Holder } from "./receiver.ts";

/** How long nothing has to come before the broker is asked, and how often it has to say that nothing is left. */
interface Proof {
  readonly waitMs: number;
  readonly times: number;
}

const EXACT: Proof = { waitMs: 20, times: 1 };
const TOLD_LATE: Proof = { waitMs: 100, times: 3 };
/** Brokers with leases answer from one of many places, and may hand out nothing though something stands there. */
const APPROXIMATE: Proof = { waitMs: 500, times: 4 };
/** For so long is waited for what others may hold where the broker says nothing of it. */
const UNTOLD_MS = 2_000;
/** For so long a consumer that has left may be counted. */
const LEAVING_MS = 1_000;

/**
 * Tells when nothing more will come to a holder: nothing came for a while, and the broker says, as often as its word asks
 * for, that nothing is left to hand out. What others hold is waited for within the patience, and so is what a receiver that
 * is stalled may still be given.
 */
export class DrainDetection {
  readonly #internals: BrokerInternals;
  readonly #address: DeadLettersAddress;
  readonly #holder: Holder;
  readonly #patienceMs: number;
  readonly #othersMs: number;
  #elsewhere: number | null = 0;
  #since: number;
  #said = 0;
  #proof: Proof | undefined;

  /** `othersMs` is the patience with what others hold. */
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

  /** For how long to wait for something before {@link reached} is asked. */
  get waitMs(): number {
    return (this.#proof ?? (this.#holder.leased ? APPROXIMATE : EXACT)).waitMs;
  }

  /**
   * How many others held when the broker was asked last; null where others are there and the broker does not tell how many
   * they hold.
   */
  get elsewhere(): number | null {
    return this.#elsewhere;
  }

  /** Something came. */
  disturbed(): void {
    this.#since = this.#internals.clock.monotonic();
    this.#said = 0;
  }

  /**
   * `all`: nothing is left, and no other process is known to hold any. `others`: others hold what is left, or it cannot be taken for now, and patience is over.
   * `untold`: as `all`, where the broker does not say what others hold, and some are `missing` that were there before.
   */
  async reached(missing = false): Promise<"no" | "all" | "others" | "untold"> {
    const { adapter, clock } = this.#internals;
    const { ready, unsettled, consumers, exact } = await adapter.depth(this.#address);
    this.#proof = exact ? EXACT : this.#holder.leased ? APPROXIMATE : TOLD_LATE;
    if (ready > 0) this.#said = 0;
    else this.#said++;
    const silentMs = clock.monotonic() - this.#since;
    const elsewhere = unsettled !== undefined && unsettled > this.#holder.held;
    const othersConsume = consumers !== undefined && consumers > this.#holder.consumers;
    if (unsettled !== undefined) this.#elsewhere = Math.max(unsettled - this.#holder.held, 0);
    else this.#elsewhere = othersConsume ? null : 0;
    // What a receiver cannot be given is neither ready nor here, and comes again.
    const isStalled = this.#holder.stalled !== undefined;
    if (ready === 0 && !elsewhere && !isStalled && this.#said >= this.#proof.times) {
      // Where the broker does not say what others hold, what is missing may be with them for a while yet.
      const untold = missing && unsettled === undefined;
      const waitMs = untold ? UNTOLD_MS : othersConsume ? LEAVING_MS : 0;
      if (silentMs >= Math.min(waitMs, this.#patienceMs)) {
        if (await this.#holder.caughtUp()) return untold ? "untold" : "all";
      }
    }
    const onlyOthers = ready === 0 && elsewhere && this.#said >= this.#proof.times;
    return silentMs >= (onlyOthers ? this.#othersMs : this.#patienceMs) ? "others" : "no";
  }
}

/** How dead letters were scanned. */
export interface DeadLetterScan {
  /**
   * Whether they were taken and requeued for the scan, because the broker cannot be read otherwise: meanwhile no other process
   * could see them, and the broker counts a delivery of each.
   */
  readonly held: boolean;
  /**
   * Whether everything that stands was seen, and once, as far as the broker tells; false while others hold some, and where
   * a connection or lease was lost on the way.
   */
  readonly complete: boolean;
  /**
   * How many others hold that could not be seen, such as a run; null where others may hold some, and the broker does not
   * tell how many.
   */
  readonly elsewhere: number | null;
}

/** How to look. */
interface ScanOptions {
  /** How long to wait for what is slow to come, in milliseconds. */
  readonly patienceMs: number;
  /** How long to wait for what others hold, in milliseconds. Default: as long. */
  readonly othersMs?: number;
  readonly signal?: AbortSignal;
}

/** Every dead letter in batches, one batch of bodies in memory at a time; then how they were scanned. */
export async function* look(
  internals: BrokerInternals,
  source: Source,
  options: ScanOptions,
): AsyncGenerator<readonly DeadLetter[], DeadLetterScan, undefined> {
  const { browse } = internals.adapter;
  const letters = (batch: readonly IncomingMessage[]): DeadLetter[] =>
    batch.map((message) => new DeadLetter(message, source.name));
  if (browse !== undefined) {
    for await (const batch of browse.call(internals.adapter, source.deadLetters)) {
      options.signal?.throwIfAborted();
      yield letters(batch);
    }
    return { held: false, complete: true, elsewhere: 0 };
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
        drain.disturbed();
        yield letters(batch.map(({ message }) => message));
        for (const taken of batch) holder.keep(taken);
        continue;
      }
      const end = await drain.reached();
      // What was lost comes again, and may have been seen twice.
      const { elsewhere } = drain;
      if (end !== "no") return { held: true, complete: end === "all" && elsewhere === 0 && !holder.hasLost, elsewhere };
    }
  } finally {
    await holder.close();
  }
}

/** Looks at all, one after another. */
export async function scanAll(
  internals: BrokerInternals,
  source: Source,
  options: ScanOptions,
  visit: (letter: DeadLetter) => void | Promise<void>,
): Promise<DeadLetterScan> {
  const looking = look(internals, source, options);
  try {
    for (;;) {
      const { done, value } = await looking.next();
      if (done) return value;
      for (const letter of value) {
        const visited = visit(letter);
        if (visited !== undefined) await visited;
      }
    }
  } finally {
    // Where the visit threw, what is held is given back.
    await looking.return({ held: false, complete: false, elsewhere: null });
  }
}

/** Between two looks. */
const FIRST_LOOK_MS = 250;
const LONGEST_LOOK_MS = 5_000;

/** Where the broker can be read: what of the plan still stands. */
export class Remaining {
  readonly #internals: BrokerInternals;
  readonly #source: Source;
  readonly #patienceMs: number;
  readonly #signal: AbortSignal | undefined;
  #waitMs = FIRST_LOOK_MS;
  #since: number;

  constructor(internals: BrokerInternals, source: Source, patienceMs: number, signal: AbortSignal | undefined) {
    this.#internals = internals;
    this.#source = source;
    this.#patienceMs = patienceMs;
    this.#signal = signal;
    this.#since = internals.clock.monotonic();
  }

  get canLook(): boolean {
    return this.#internals.adapter.browse !== undefined;
  }

  get waitMs(): number | undefined {
    return this.canLook ? this.#waitMs : undefined;
  }

  disturbed(): void {
    this.#since = this.#internals.clock.monotonic();
    this.#waitMs = FIRST_LOOK_MS;
  }

  /** Tells which do not stand any more; `held` when the others have not come for too long. */
  async look(pending: Iterable<string>, gone: (id: string) => void): Promise<"held" | "wait"> {
    const patienceMs = this.#patienceMs;
    const left = new Set(pending);
    const options = { patienceMs, ...(this.#signal === undefined ? {} : { signal: this.#signal }) };
    try {
      await scanAll(this.#internals, this.#source, options, (letter) => void left.delete(letter.id));
    } catch (error) {
      if (this.#signal?.aborted) return "wait";
      throw error;
    }
    for (const id of left) gone(id);
    this.#waitMs = Math.min(this.#waitMs * 2, LONGEST_LOOK_MS);
    return this.#internals.clock.monotonic() - this.#since > patienceMs ? "held" : "wait";
  }
}
