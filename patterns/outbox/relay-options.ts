import { hostname } from "node:os";
import type { Broker } from "../../core/broker.ts";
import { type BrokerInternals, internalsOf } from "../../core/broker-internals.ts";
import { checkInteger, checkOptions, LONGEST_MS, optionalText } from "../../core/checks.ts";
import { observe } from "../../core/foreign.ts";
import { MessagingError, type RetryPolicy } from "../../core/index.ts";
import { type Retry, retryPolicy } from "../../core/retry-policy.ts";
import type { OutboxStore } from "./store.ts";

/**
 * What keeps a relay from sending:
 * - `broker-closed`: the broker object is not started.
 * - `broker-down`: it has no connection.
 * - `broker-blocked`: the broker refuses to take messages for now.
 * - `store-down`: the store does not answer, or refuses to; `error` says which.
 */
export type RelayStallCause = "broker-closed" | "broker-down" | "broker-blocked" | "store-down";

/** Why a relay sends nothing for now, and since when. */
export interface RelayStall {
  readonly cause: RelayStallCause;
  /** For how long, in milliseconds. */
  readonly ageMs: number;
  readonly error: unknown;
}

/** The calls of an `OutboxStore` that a relay makes. */
export type RelayStoreCall = "claim" | "renew" | "settle" | "clean" | "health" | "listen";

/** Which row an event is about. */
export interface RelayRowEvent {
  /** The message's id. */
  readonly id: string;
  /** The queue's or topic's name. */
  readonly destination: string;
}

/**
 * What `createRelay { onEvent }` is told. Never holds a key, a header, a body or a credential.
 *
 * - `stalled`: nothing is sent for now, and why; told once, and again when the cause is another.
 * - `flowing`: the stall is over.
 * - `failed`: the broker refused a row; it is tried again after `retryMs`, and until then nothing behind it in its key.
 * - `quarantined`: the broker refused a row for the last time, or it was sent and the database does not let it be removed
 *   (`conflict`); it stands in the store until somebody retries or discards it.
 * - `postponed`: nobody knows what became of a row, or it never left; it is tried again after `retryMs` under its id. That
 *   alone never quarantines it.
 * - `lost`: rows whose lease ended before they were marked: another relay sends them, under their ids.
 * - `store-failed`: a call to the store failed or was not answered in time; it is made again.
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
  /** Where the rows are. */
  readonly store: OutboxStore;
  /** Where they go: a broker object made by `createBroker`, which its owner starts and stops. */
  readonly broker: Broker;
  /** What the claims of this relay are called in the store, for people to read. Default: the host and the process. */
  readonly name?: string;
  /**
   * The most rows that one claim takes. A relay holds four claims' worth at most, so that a key with many rows does not
   * keep the others waiting. Default 1,000.
   */
  readonly batchSize?: number;
  /**
   * About the most bytes of bodies and headers that a relay holds; a claim asks for fewer rows where they are large.
   * Default 64 MiB.
   */
  readonly maxBytes?: number;
  /**
   * How often the store is asked for rows while it has none to send, in milliseconds, up to a fifth less so that relays do
   * not ask together. As long as there are more, the next claim is made at once. Default 1,000.
   */
  readonly pollMs?: number;
  /**
   * How long claimed rows are this relay's without being renewed, in milliseconds. They are renewed three times as often,
   * for as long as the process lives; after its death, others wait so long before they take them over. Default 30,000.
   */
  readonly leaseMs?: number;
  /**
   * How often a row that the broker refuses is tried before it is quarantined, and when. Default: 10 attempts, or for a
   * list of delays one more than it has, and the delays of `RetryPolicy`. An outage of the broker, or an unconfirmed send, uses up none.
   */
  readonly retry?: RetryPolicy;
  /**
   * What a quarantined row does to those behind it in its key: `hold` them until somebody retries or discards it, or let
   * them `pass`. Only rows of ordered destinations
   * hold their key. Default `hold`.
   */
  readonly onQuarantine?: "hold" | "pass";
  /**
   * How rows that were sent are removed whose time of keeping is over (an option of the store), or `false` if somebody else
   * does it.
   */
  readonly clean?: RelayCleanOptions | false;
  /** How long the store may take to answer, in milliseconds, at most a third of `leaseMs`. Default 10,000, or that third. */
  readonly storeTimeoutMs?: number;
  /** Told what happens. What it throws is ignored. */
  readonly onEvent?: (event: RelayEvent) => void;
}

/** How a store is cleaned of rows that were sent: a bounded number at a time, beside the sending. */
export interface RelayCleanOptions {
  /** Milliseconds between two cleanings; if one removed as much as it might, the next comes at once. Default 10,000. */
  readonly everyMs?: number;
  /** The most rows that one statement removes. Default 5,000. */
  readonly limit?: number;
}

/** The options with nothing left open. */
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
  readonly tell: (event: RelayEvent) => void;
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

/** Checks what was given and fills in the defaults. */
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
    clean: cleanSettings(options.clean),
    storeTimeoutMs,
    tell: (event) => observe(onEvent, event),
  };
}

function cleanSettings(given: RelayCleanOptions | false = {}): Required<RelayCleanOptions> | undefined {
  if (given === false) return undefined;
  checkOptions(`${WHERE} { clean }`, given, ["everyMs", "limit"]);
  const { everyMs = 10_000, limit = 5_000 } = given;
  checkInteger(`${WHERE} { clean.everyMs }`, everyMs, 1, LONGEST_MS);
  checkInteger(`${WHERE} { clean.limit }`, limit, 1);
  return { everyMs, limit };
}
