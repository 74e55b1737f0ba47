import { checkInteger, checkOptions } from "../../core/checks.ts";
import { DEFAULT_STOP_MS } from "../../core/consume/consumer.ts";
import { MessagingError } from "../../core/index.ts";
import { Alarm, type RelayCounts, RelayRun } from "./relay/run.ts";
import type { RelayStall } from "./relay-options.ts";
import { type RelayOptions, type RelaySettings, relaySettings } from "./relay-options.ts";
import type { OutboxHealth } from "./store.ts";

/** The options of {@link Relay.stop}. */
export interface RelayStopOptions {
  /** How long what is on its way to the broker may take, in milliseconds. Then it is given back. Default 30,000. */
  readonly timeoutMs?: number;
}

/** The options of {@link Relay.drain}. */
export interface RelayDrainOptions {
  /** Ends the waiting, not the relay: the promise rejects with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** How a relay is; see {@link Relay.status}. */
export interface RelayStatus {
  readonly state: "stopped" | "started" | "stopping";
  /** Why it sends nothing for now; undefined while it can. */
  readonly stall: RelayStall | undefined;
  /** Rows that it claimed and that are not settled. */
  readonly held: number;
  /** Those of them that were handed to the broker and are not confirmed. */
  readonly sending: number;
  /** Bytes of bodies and headers that it holds. */
  readonly bytes: number;
  /** Since the relay was made: rows that the broker confirmed. */
  readonly sent: number;
  /** Refusals by the broker after which a row is tried again. */
  readonly failed: number;
  /** Refusals after which a row stands in quarantine. */
  readonly quarantined: number;
  /** Sends whose end is unknown, or that never left. */
  readonly postponed: number;
  /** Rows whose lease ended before they were begun. */
  readonly lost: number;
  /** The whole outbox, as the store sees it; undefined if it did not answer. */
  readonly outbox: OutboxHealth | undefined;
}

/**
 * Sends the rows of an outbox to a broker, each at least once and under its own id: a row is settled as sent only after
 * the broker's confirm. Of one key, a row is sent when the one before it was confirmed, also with several relays; keys do
 * not wait for each other.
 */
export interface Relay extends AsyncDisposable {
  /**
   * Begins. Resolves at once: a store or a broker that is not there yet is waited for, and reported by `status()` and
   * `onEvent`. A second call does nothing; after `stop` it begins again. Rejects with `closed` while it is stopping.
   */
  start(): Promise<void>;
  /**
   * Claims no more, waits for what is on its way, gives back the rest, and leaves no timer or call behind. Stop it before
   * the broker object. Never rejects; a second call waits for the first.
   */
  stop(options?: RelayStopOptions): Promise<void>;
  /**
   * Resolves when no row is left that is due, with this relay or with others. What is not due yet and what is quarantined is
   * not waited for; rows behind a quarantined one of their key are, until the store reports that key as held. Rejects with
   * `closed` when the relay is not started, or stopped meanwhile.
   */
  drain(options?: RelayDrainOptions): Promise<void>;
  /**
   * How the relay is, and the whole outbox: the age of the oldest row that should have gone, how many are unsent and
   * quarantined, and what holds them up. Asks the store, so call it every few seconds and not for each message. Never rejects.
   */
  status(): Promise<RelayStatus>;
}

/**
 * Makes a relay; nothing happens before `start()`. Any number may run on one store at once, in any processes. What a dead
 * one held is taken over when its lease ends. Time is the broker object's clock; leases and due times are the store's.
 * Throws `invalid` for wrong options.
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
    const aborted = Promise.withResolvers<never>();
    aborted.promise.catch(() => {});
    const abort = (): void => aborted.reject(signal?.reason);
    signal?.addEventListener("abort", abort, { once: true });
    try {
      await Promise.race([this.#drain(signal), aborted.promise]);
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  async #drain(signal: AbortSignal | undefined): Promise<void> {
    const run = this.#run;
    const alarm = new Alarm(this.#settings.internals.clock);
    while (run !== undefined && !run.stopping && signal?.aborted !== true) {
      const before = await run.calls.health();
      // Nothing at all: then it need not be tried, also while the broker is away.
      if ("value" in before && before.value.unsent === 0 && run.held.rows === 0) return;
      await run.foundNothing();
      const answer = await run.calls.health();
      if (run.stopping) break;
      if ("value" in answer && isDrained(answer.value)) return;
      // Others have it, and may die.
      await alarm.sleep(this.#settings.pollMs);
    }
    throw new MessagingError("closed", "the outbox cannot be drained: the relay is not started");
  }

  async status(): Promise<RelayStatus> {
    const run = this.#run;
    const state = run === undefined ? "stopped" : run.stopping ? "stopping" : "started";
    const answer = run === undefined ? undefined : await run.calls.health();
    run?.watch.look();
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

/** Whether nothing is due, apart from what waits behind quarantined rows. */
function isDrained({ oldestUnsentMs, unsent, stalls }: OutboxHealth): boolean {
  return unsent === 0 || oldestUnsentMs === 0 || stalls.some(({ cause }) => cause === "held-key");
}
