import { checkInteger, checkOptions } from "../../core/checks.ts";
import { pause } from "../../core/clock.ts";
import { DEFAULT_STOP_MS } from "../../core/consume/consumer.ts";
import { MessagingError } from "../../core/errors.ts";
import { unlessAborted } from "./inbox.ts";
import { type RelayCounts, RelayRun } from "./relay/run.ts";
import { type RelayOptions, type RelaySettings, type RelayStall, relaySettings } from "./relay-options.ts";
import type { OutboxHealth } from "./store.ts";

/** The options of {@link Relay.stop}. */
export interface RelayStopOptions {
  /** How long rows in flight may take, in milliseconds. Then they are released. Default 30,000. */
  readonly timeoutMs?: number;
}

/** The options of {@link Relay.drain}. */
export interface RelayDrainOptions {
  /** Ends the wait, not the relay: the promise rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** The status of a relay; see {@link Relay.status}. */
export interface RelayStatus {
  readonly state: "stopped" | "started" | "stopping";
  /** Why it cannot send; undefined while it can. */
  readonly stall: RelayStall | undefined;
  /** Claimed rows that are not settled. */
  readonly held: number;
  /** Held rows that are sent to the broker and not confirmed. */
  readonly sending: number;
  /** Bytes of bodies and headers of the held rows. */
  readonly bytes: number;
  /** Rows that the broker confirmed. This and the next numbers count from the relay's creation. */
  readonly sent: number;
  /** Refusals by the broker after which a row is tried again. */
  readonly failed: number;
  /** Refusals after which a row is quarantined. */
  readonly quarantined: number;
  /** Sends with an unknown result, or not begun. */
  readonly postponed: number;
  /** Rows whose lease ended before their send began. */
  readonly lost: number;
  /** The health of the whole outbox; undefined if the store did not answer. */
  readonly outbox: OutboxHealth | undefined;
}

/**
 * Sends the rows of an outbox to a broker, each at least once and under its id. A row is settled as sent only after the
 * broker's confirm. Rows of one key follow each other's confirms, also with several relays; keys do not wait for each other.
 */
export interface Relay extends AsyncDisposable {
  /**
   * Starts the relay, and resolves at once. The relay waits for an unavailable store or broker, which `status()` and `onEvent`
   * report. A second call does nothing; after `stop` it starts again. Rejects with `closed` while it is stopping.
   */
  start(): Promise<void>;
  /**
   * Ends claiming, waits for rows in flight, releases the rest, and leaves no timer or call behind. Stop it before the broker
   * object. Never rejects; a second call waits for the first.
   */
  stop(options?: RelayStopOptions): Promise<void>;
  /**
   * Resolves when no due row is left, with this relay or with others. It does not wait for quarantined rows, nor for rows
   * behind them once the store reports their key as held. Rejects with `closed` if the relay is not started, or stops
   * meanwhile.
   */
  drain(options?: RelayDrainOptions): Promise<void>;
  /**
   * The status of the relay and the health of the whole outbox: the age of the oldest due row, the numbers of unsent and
   * quarantined rows, and what blocks them. It asks the store: call it every few seconds, not per message. Never rejects.
   */
  status(): Promise<RelayStatus>;
}

/**
 * Creates a relay; call `start()`. Any number of relays can run on one store, in any processes. Others take over the rows of
 * a dead relay when its lease ends. Time is the broker object's clock; leases and due times are the store's. Throws `invalid`
 * for wrong options.
 */
export function createRelay(options: RelayOptions): Relay {
  return new StoreRelay(relaySettings(options));
}

class StoreRelay implements Relay {
  readonly #settings: RelaySettings;
  readonly #counts: RelayCounts = { sent: 0, failed: 0, quarantined: 0, postponed: 0, lost: 0 };
  #run: RelayRun | undefined;
  #stopped: Promise<void> | undefined;

  constructor(settings: RelaySettings) {
    this.#settings = settings;
  }

  async start(): Promise<void> {
    if (this.#stopped !== undefined) {
      throw new MessagingError("closed", "the relay is stopping; wait for its stop() and start it then");
    }
    this.#run ??= new RelayRun(this.#settings, this.#counts);
  }

  stop(options: RelayStopOptions = {}): Promise<void> {
    checkOptions("relay.stop", options, ["timeoutMs"]);
    const { timeoutMs = DEFAULT_STOP_MS } = options;
    checkInteger("relay.stop { timeoutMs }", timeoutMs, 0);
    const run = this.#run;
    if (run === undefined) return Promise.resolve();
    this.#stopped ??= run.stop(timeoutMs).finally(() => {
      this.#run = undefined;
      this.#stopped = undefined;
    });
    return this.#stopped;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async drain(options: RelayDrainOptions = {}): Promise<void> {
    checkOptions("relay.drain", options, ["signal"]);
    const { signal } = options;
    signal?.throwIfAborted();
    const drained = this.#drain(signal);
    await (signal === undefined ? drained : unlessAborted(signal, drained));
  }

  async #drain(signal: AbortSignal | undefined): Promise<void> {
    const run = this.#run;
    while (run !== undefined && !run.stopping && signal?.aborted !== true) {
      const before = await run.calls.health();
      // An empty outbox needs no claim, also while the broker is down.
      if ("value" in before && before.value.unsent === 0 && run.held.rows === 0) return;
      await run.foundNothing();
      const answer = await run.calls.health();
      if (run.stopping) break;
      if ("value" in answer && isDrained(answer.value)) return;
      // Other relays have the rest, and may die.
      await pause(this.#settings.internals.clock, this.#settings.pollMs, signal);
    }
    throw new MessagingError("closed", "the outbox cannot be drained: the relay is not started");
  }

  async status(): Promise<RelayStatus> {
    const run = this.#run;
    const state = run === undefined ? "stopped" : run.stopping ? "stopping" : "started";
    const answer = run === undefined ? undefined : await run.calls.health();
    run?.watch.check();
    const { rows, sending, bytes } = run?.held ?? { rows: 0, sending: 0, bytes: 0 };
    return {
      state,
      stall: run?.watch.stall,
      held: rows,
      sending,
      bytes,
      ...this.#counts,
      outbox: answer !== undefined && "value" in answer ? answer.value : undefined,
    };
  }
}

/** Whether no row is due, except behind quarantined rows. */
function isDrained({ oldestUnsentMs, unsent, stalls }: OutboxHealth): boolean {
  return unsent === 0 || oldestUnsentMs === 0 || stalls.some(({ cause }) => cause === "held-key");
}
