import type { Clock } from "../../../core/clock.ts";
import { MessagingError } from "../../../core/index.ts";
import type { Retry } from "../../../core/retry-policy.ts";
import type { RelaySettings, RelayStall, RelayStallCause } from "../relay-options.ts";
import type { OutboxRow } from "../store.ts";

/** A place that gave no answer. */
interface Silence {
  failures: number;
  /** Until when nothing is tried. */
  until: number;
  error: MessagingError;
}

/**
 * Places that leave sends without an answer while the broker is there. Their rows are set aside and tried by one at a
 * time, so that those that wait for a place do not take the room of all others.
 */
export class SilentPlaces {
  readonly #clock: Clock;
  readonly #retry: Retry;
  readonly #silences = new Map<string, Silence>();

  constructor(clock: Clock, retry: Retry) {
    this.#clock = clock;
    this.#retry = retry;
  }

  /** A send there had no answer. Returns for how long to leave the place alone, in milliseconds. */
  silent(row: OutboxRow, error: MessagingError): number {
    const now = this.#clock.monotonic();
    const silence = this.#silences.get(placeOf(row)) ?? { failures: 0, until: now, error };
    this.#silences.set(placeOf(row), silence);
    silence.error = error;
    // Those that were on their way together fail together, and count once.
    if (now >= silence.until) silence.until = now + this.#retry.delayMs(++silence.failures);
    return silence.until - now;
  }

  answered(row: OutboxRow): void {
    if (this.#silences.size > 0) this.#silences.delete(placeOf(row));
  }

  /** Whether a row has to wait, for how long and why; the one to which it says no is the one to try. */
  aside(row: OutboxRow): { readonly retryMs: number; readonly error: MessagingError } | undefined {
    const silence = this.#silences.size === 0 ? undefined : this.#silences.get(placeOf(row));
    if (silence === undefined) return undefined;
    const now = this.#clock.monotonic();
    const { until, error, failures } = silence;
    if (now < until) return { retryMs: Math.ceil(until - now), error };
    silence.until = now + this.#retry.delayMs(failures);
    return undefined;
  }
}

function placeOf({ to }: OutboxRow): string {
  return `${to.kind} ${to.name}`;
}

/** Knows why nothing is sent, and tells it when that changes. */
export class StallWatch {
  readonly #settings: RelaySettings;
  readonly #storeFailure: () => unknown;
  #current: { readonly cause: RelayStallCause; readonly since: number; readonly error: unknown } | undefined;

  constructor(settings: RelaySettings, storeFailure: () => unknown) {
    this.#settings = settings;
    this.#storeFailure = storeFailure;
  }

  get stall(): RelayStall | undefined {
    if (this.#current === undefined) return undefined;
    const { cause, since, error } = this.#current;
    return { cause, ageMs: Math.floor(this.#settings.internals.clock.monotonic() - since), error };
  }

  /** Whether the broker takes messages, as far as it is known. */
  get brokerTakes(): boolean {
    return this.#brokerStall() === undefined;
  }

  /** Looks again. */
  look(): void {
    const failure = this.#storeFailure();
    const found =
      this.#brokerStall() ?? (failure === undefined ? undefined : { cause: "store-down" as const, error: failure });
    if (found?.cause === this.#current?.cause) return;
    const { internals, tell } = this.#settings;
    this.#current = found === undefined ? undefined : { ...found, since: internals.clock.monotonic() };
    tell(found === undefined ? { type: "flowing" } : { type: "stalled", ...found });
  }

  #brokerStall(): { readonly cause: RelayStallCause; readonly error: MessagingError } | undefined {
    const { broker, internals } = this.#settings;
    const { state, connected, blocked } = broker.status();
    const { name } = internals.adapter;
    if (state !== "started") {
      return {
        cause: "broker-closed",
        error: new MessagingError("closed", `the broker object on ${name} is not started; call its start()`),
      };
    }
    if (!connected) {
      return {
        cause: "broker-down",
        error: new MessagingError("unreachable", `there is no connection to ${name}; the relay waits for it`),
      };
    }
    if (blocked === undefined) return undefined;
    return {
      cause: "broker-blocked",
      error: new MessagingError("overloaded", `${name} takes no messages for now: ${blocked}; the relay waits`),
    };
  }
}
