import { hostname } from "node:os";
import type { Broker } from "../../core/broker.ts";
import { type BrokerInternals, internalsOf } from "../../core/broker-internals.ts";
import { checkInteger, checkOptions, LONGEST_MS, optionalText } from "../../core/checks.ts";
import { MessagingError } from "../../core/errors.ts";
import { observe } from "../../core/foreign.ts";
import { type Retry, type RetryPolicy, retryPolicy } from "../../core/retry-policy.ts";
import { cleanSettings } from "../../core/stores.ts";
import type { OutboxStore } from "./store.ts";

/**
 * Why a relay cannot send:
 * - `broker-closed`: the broker object is not started.
 * - `broker-down`: the broker is not connected.
 * - `broker-blocked`: the broker accepts no messages for now.
 * - `store-down`: the store does not answer, or refuses the calls; `error` says which.
 */
export type RelayStallCause = "broker-closed" | "broker-down" | "broker-blocked" | "store-down";

/** Why a relay cannot send, and since when. */
export interface RelayStall {
  readonly cause: RelayStallCause;
  /** For how long, in milliseconds. */
  readonly ageMs: number;
  readonly error: unknown;
}

/** The calls of an `OutboxStore` that a relay makes. */
export type RelayStoreCall = "claim" | "renew" | "settle" | "clean" | "health" | "listen";

/** The row of an event. */
export interface RelayRowEvent {
  /** The message's id. */
  readonly id: string;
  /** The queue's or topic's name. */
  readonly destination: string;
}

/**
 * An event of `createRelay { onEvent }`. It never has a key, a header, a body or a credential.
 *
 * - `stalled`: the relay cannot send, with the cause. Emitted once, and again for another cause.
 * - `flowing`: the stall is over.
 * - `failed`: the broker refused a row. The relay retries it after `retryMs`, and sends nothing behind it in its key before.
 * - `quarantined`: the broker refused a row for the last time, or the database keeps a sent row from being removed
 *   (`conflict`). The row stays in the store until it is retried or discarded.
 * - `postponed`: the result of a send is unknown, or it was not begun. The relay retries it after `retryMs` under its id.
 *   This alone never quarantines a row.
 * - `lost`: the lease of rows ended before their settlement: another relay sends them, under their ids.
 * - `store-failed`: a call to the store failed or timed out. The relay repeats it.
 */
export type RelayEvent =
  | { readonly type: "stalled"; readonly cause: RelayStallCause; readonly error: unknown }
  | { readonly type: "flowing" }
  | (RelayRowEvent & {
      readonly type: "failed";
      readonly attempts: number;
      readonly retryMs: number;
      readonly error: MessagingError;
    })
  | (RelayRowEvent & { readonly type: "quarantined"; readonly attempts: number; readonly error: MessagingError })
  | (RelayRowEvent & { readonly type: "postponed"; readonly retryMs: number; readonly error: MessagingError })
  | { readonly type: "lost"; readonly count: number }
  | { readonly type: "store-failed"; readonly call: RelayStoreCall; readonly error: unknown };

/** The options of {@link createRelay}. */
export interface RelayOptions {
  /** The outbox to send from. */
  readonly store: OutboxStore;
  /** The broker to send to: an object of `createBroker`. The relay neither starts nor stops it. */
  readonly broker: Broker;
  /** The name of this relay's claims in the store, for people. Default: the host and the process. */
  readonly name?: string;
  /**
   * The most rows per claim. A relay holds four times as many at most, so that a key with many rows does not delay the
   * others. Default 1,000.
   */
  readonly batchSize?: number;
  /**
   * The most bytes of bodies and headers that a relay holds, approximately. Claims take fewer rows if rows are large. Default
   * 64 MiB.
   */
  readonly maxBytes?: number;
  /**
   * The milliseconds between claims while there are no rows, up to a fifth less, so that relays do not poll together. After a
   * claim with rows the next follows at once. Default 1,000.
   */
  readonly pollMs?: number;
  /**
   * How long a claim lasts without a renewal, in milliseconds. The relay renews it three times in that time. After the death
   * of its process, other relays take the rows over when the lease ends. Default 30,000.
   */
  readonly leaseMs?: number;
  /**
   * The attempts and delays before a refused row is quarantined. Default: 10 attempts, or one more than a list of delays has,
   * with the delays of `RetryPolicy`. Broker outages and unconfirmed sends use no attempt.
   */
  readonly retry?: RetryPolicy;
  /**
   * Whether rows behind a quarantined row of their key wait (`hold`) until it is retried or discarded, or not (`pass`).
   * Only rows of ordered destinations hold their key. Default `hold`.
   */
  readonly onQuarantine?: "hold" | "pass";
  /** How sent rows are removed that the store keeps (its `keepSentMs`), or `false` if another process does it. */
  readonly clean?: RelayCleanOptions | false;
  /** How long the store may take to answer, in milliseconds, at most a third of `leaseMs`. Default 10,000, or that third. */
  readonly storeTimeoutMs?: number;
  /** Called for each event. Errors that it throws are ignored. */
  readonly onEvent?: (event: RelayEvent) => void;
}

/** How sent rows are removed: a limited number per call, beside the sends. */
export interface RelayCleanOptions {
  /** Milliseconds between two cleanings; 0 after a cleaning that reached its limit. Default 10,000. */
  readonly everyMs?: number;
  /** The most rows that one statement removes. Default 5,000. */
  readonly limit?: number;
}

/** The options with their defaults. */
export interface RelaySettings {
  readonly store: OutboxStore;
  readonly broker: Broker;
  readonly internals: BrokerInternals;
  readonly name: string;
  readonly batchSize: number;
  readonly maxBytes: number;
  readonly pollMs: number;
  readonly leaseMs: number;
  readonly retry: Retry;
  readonly onQuarantine: "hold" | "pass";
  readonly clean: Required<RelayCleanOptions> | undefined;
  readonly storeTimeoutMs: number;
  /** Never throws. */
  readonly emit: (event: RelayEvent) => void;
}

const OPTIONS = [
  "store",
  "broker",
  "name",
  "batchSize",
  "maxBytes",
  "pollMs",
  "leaseMs",
  "retry",
  "onQuarantine",
  "clean",
  "storeTimeoutMs",
  "onEvent",
];
const DEFAULT_ATTEMPTS = 10;
const DEFAULT_STORE_TIMEOUT_MS = 10_000;
const WHERE = "createRelay";

/** Checks the options and fills in the defaults. */
export function relaySettings(options: RelayOptions): RelaySettings {
  checkOptions(WHERE, options, OPTIONS);
  const { store, broker, onEvent, onQuarantine = "hold", retry = {} } = options;
  const internals = internalsOf(broker, `${WHERE} { broker }`);
  if (typeof (store as Partial<OutboxStore> | undefined)?.claim !== "function") {
    throw new MessagingError("invalid", `${WHERE} { store } takes an outbox store, such as one on Postgres or SQLite`);
  }
  const { batchSize = 1_000, maxBytes = 64 * 1024 * 1024, pollMs = 1_000, leaseMs = 30_000 } = options;
  checkInteger(`${WHERE} { batchSize }`, batchSize, 1, 10_000);
  checkInteger(`${WHERE} { maxBytes }`, maxBytes, 1);
  checkInteger(`${WHERE} { pollMs }`, pollMs, 1, LONGEST_MS);
  checkInteger(`${WHERE} { leaseMs }`, leaseMs, 3, LONGEST_MS);
  const longestAnswer = Math.floor(leaseMs / 3);
  const { storeTimeoutMs = Math.min(DEFAULT_STORE_TIMEOUT_MS, longestAnswer) } = options;
  checkInteger(`${WHERE} { storeTimeoutMs }, at most a third of leaseMs,`, storeTimeoutMs, 1, longestAnswer);
  if (onQuarantine !== "hold" && onQuarantine !== "pass") {
    throw new MessagingError(
      "invalid",
      `${WHERE} { onQuarantine } takes "hold" or "pass", not ${String(onQuarantine)}`,
    );
  }
  if (onEvent !== undefined && typeof onEvent !== "function") {
    throw new MessagingError("invalid", `${WHERE} { onEvent } takes a function`);
  }
  return {
    store,
    broker,
    internals,
    name: optionalText(WHERE, "name", options.name) ?? `${hostname()}:${process.pid}`,
    batchSize,
    maxBytes,
    pollMs,
    leaseMs,
    retry: retryPolicy(WHERE, retry, {
      attempts: DEFAULT_ATTEMPTS,
      random: internals.random,
      notice: (error) => internals.emit({ type: "notice", error }),
    }),
    onQuarantine,
    clean: cleanSettings(WHERE, options.clean, { everyMs: 10_000, limit: 5_000 }),
    storeTimeoutMs,
    emit: (event) => observe(onEvent, event),
  };
}
