import type { IncomingMessage } from "../../core/adapter.ts";
import type { BrokerInternals } from "../../core/broker-internals.ts";
import { DeadLetter } from "./dead-letter.ts";
import { Holder } from "./holder.ts";
import type { Source } from "./source.ts";
import { Stillness } from "./stillness.ts";

/** How dead letters were looked at. */
export interface Look {
  /**
   * Whether they were taken and given back to be looked at, because the broker cannot be read otherwise: meanwhile nobody
   * else could see them, and the broker counts a delivery of each.
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
export interface LookOptions {
  /** How long to wait for what is slow to come, in milliseconds. */
  readonly patienceMs: number;
  /** How long to wait for what others hold, in milliseconds. Default: as long. */
  readonly othersMs?: number;
  readonly signal?: AbortSignal;
}

/** Every dead letter that stands, in batches, a batch of bodies in memory at a time; then how they were looked at. */
export async function* look(
  internals: BrokerInternals,
  source: Source,
  options: LookOptions,
): AsyncGenerator<readonly DeadLetter[], Look, undefined> {
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
  return yield* lookByHolding(internals, source, options, letters);
}

async function* lookByHolding(
  internals: BrokerInternals,
  source: Source,
  { patienceMs, othersMs, signal }: LookOptions,
  letters: (batch: readonly IncomingMessage[]) => DeadLetter[],
): AsyncGenerator<readonly DeadLetter[], Look, undefined> {
  const holder = await Holder.open(internals, source.deadLetters);
  try {
    const stillness = new Stillness(internals, source.deadLetters, holder, patienceMs, othersMs);
    for (;;) {
      const batch = await holder.take(stillness.waitMs, signal);
      signal?.throwIfAborted();
      if (batch.length > 0) {
        stillness.disturbed();
        yield letters(batch.map(({ message }) => message));
        for (const taken of batch) holder.keep(taken);
        continue;
      }
      const end = await stillness.reached();
      // What was lost comes again, and may have been seen twice.
      const { elsewhere } = stillness;
      if (end !== "no") return { held: true, complete: end === "all" && elsewhere === 0 && !holder.hasLost, elsewhere };
    }
  } finally {
    await holder.close();
  }
}

/** Looks at all, one after another. */
export async function lookAtAll(
  internals: BrokerInternals,
  source: Source,
  options: LookOptions,
  visit: (letter: DeadLetter) => void | Promise<void>,
): Promise<Look> {
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
