import { MessagingError } from "../../../core/errors.ts";
import type { RelaySettings, RelayStall, RelayStallCause } from "../relay-options.ts";

/** Knows why a relay cannot send, and emits changes. */
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

  /** Whether the broker accepts messages, by its last status. */
  get brokerAccepts(): boolean {
    return this.#brokerStall() === undefined;
  }

  /** Checks the broker and the store again. */
  check(): void {
    const failure = this.#storeFailure();
    const found =
      this.#brokerStall() ?? (failure === undefined ? undefined : { cause: "store-down" as const, error: failure });
    if (found?.cause === this.#current?.cause) return;
    const { internals, emit } = this.#settings;
    this.#current = found === undefined ? undefined : { ...found, since: internals.clock.monotonic() };
    emit(found === undefined ? { type: "flowing" } : { type: "stalled", ...found });
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
        error: new MessagingError("unreachable", `${name} is not connected; the relay waits for it`),
      };
    }
    if (blocked === undefined) return undefined;
    return {
      cause: "broker-blocked",
      error: new MessagingError("overloaded", `${name} accepts no messages for now: ${blocked}; the relay waits`),
    };
  }
}
