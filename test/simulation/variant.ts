import { Prng } from "./prng.ts";

/** What one seed simulates. */
export interface Variant {
  /** What goes wrong: nothing, the network, one message that kills, several, processes coming and going, or all of it. */
  readonly profile: "calm" | "network" | "poison" | "poisons" | "churn" | "everything";
  readonly processes: number;
  readonly messages: number;
  readonly keys: number;
  readonly chaosMs: number;
  readonly queueOrdered: boolean;
  readonly topicOrdered: boolean;
  readonly leaseMs: number | undefined;
  /** Whether the receiver is told when a lease lapses, or finds out when it extends or settles. */
  readonly lapsesTold: boolean;
  /** The longest native delay; 0 where the adapter has none. */
  readonly maxDelayMs: number;
  readonly storesInOrder: boolean;
  readonly batchMessages: number;
  readonly batchBytes: number;
  readonly batchesInFlight: number;
  readonly bufferMessages: number;
  readonly whenFull: "wait" | "fail";
  readonly publishTimeoutMs: number;
  readonly concurrency: number;
  readonly prefetchMessages: number;
  readonly attempts: number;
  readonly firstMs: number;
  readonly factor: number;
  readonly maxMs: number;
  readonly handlerTimeoutMs: number;
  /** Whether the adapter answers an acknowledgement when it is written, as AMQP clients do, or when it was applied. */
  readonly acksUnanswered: boolean;
  /** Whether a closed receiver's unsettled messages come back with their count raised. */
  readonly closeCounts: boolean;
  readonly asyncSchema: boolean;
  /** Whether the broker hands what a consumer holds to others while it lives, as logs with consumer groups do. */
  readonly handsOver: boolean;
  /** Whether the broker itself moves a message to the dead letters when it is told to. */
  readonly movesDeadLetters: boolean;
  readonly maxParked: number;
  /** Longer than any cut lasts. */
  readonly silenceMs: number;
}

export function variantOf(seed: number): Variant {
  const prng = new Prng(`${seed}`).fork("variant");
  const profile = prng.pick<Variant["profile"]>([
    "calm",
    "network",
    "network",
    "poison",
    "poisons",
    "churn",
    "everything",
    "everything",
  ]);
  return {
    profile,
    processes: prng.between(1, 3),
    messages: prng.between(10, 70),
    keys: prng.between(1, 6),
    chaosMs: prng.pick([5_000, 20_000, 60_000]),
    queueOrdered: prng.chance(0.4),
    topicOrdered: prng.chance(0.4),
    leaseMs: prng.chance(0.4) ? prng.pick([900, 3_000, 10_000]) : undefined,
    lapsesTold: prng.chance(0.6),
    maxDelayMs: prng.pick([0, 700, 3_000, 900_000]),
    storesInOrder: prng.chance(0.5),
    batchMessages: prng.pick([1, 2, 5, 100]),
    batchBytes: prng.pick([200, 1_000, 100_000]),
    batchesInFlight: prng.pick([1, 2, 10]),
    bufferMessages: prng.pick([2, 8, 1_000]),
    whenFull: prng.pick(["wait", "fail"]),
    publishTimeoutMs: prng.pick([500, 5_000, 30_000]),
    concurrency: prng.pick([1, 2, 5, 20]),
    prefetchMessages: prng.pick([1, 3, 10, 500]),
    attempts: prng.between(1, 5),
    firstMs: prng.pick([0, 100, 1_000]),
    factor: prng.pick([1, 2]),
    maxMs: prng.pick([1_000, 5_000]),
    handlerTimeoutMs: prng.pick([1_500, 4_000]),
    acksUnanswered: prng.chance(0.5),
    closeCounts: prng.chance(0.5),
    asyncSchema: prng.chance(0.3),
    // Drawn apart, so that seeds which once failed go on to mean what they meant.
    handsOver: new Prng(`${seed}`).fork("hands over").chance(0.3),
    movesDeadLetters: new Prng(`${seed}`).fork("moves dead letters").chance(0.5),
    maxParked: new Prng(`${seed}`).fork("parks").pick([0, 2, 100]),
    silenceMs: new Prng(`${seed}`).fork("silence").pick([15_000, 30_000, 60_000]),
  };
}
