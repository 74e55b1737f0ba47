import { MessagingError } from "../../../core/index.ts";
import type { RelayStoreCall } from "../relay-events.ts";
import type { RelaySettings } from "../relay-options.ts";
import type { OutboxClaim, OutboxHealth, OutboxSettlement } from "../store.ts";

/** The answer of a store, or why there is none. */
export type StoreAnswer<T> = { readonly value: T } | { readonly error: unknown };

/** The store as a relay asks it: no call rejects or takes longer than it may, and what fails is told. */
export class StoreCalls {
  readonly #settings: RelaySettings;
  readonly #failing = new Map<RelayStoreCall, unknown>();
  readonly #changed: () => void;

  /** `changed` is called when {@link StoreCalls.failure} may be another. */
  constructor(settings: RelaySettings, changed: () => void) {
    this.#settings = settings;
    this.#changed = changed;
  }

  /** Why rows can be neither claimed nor settled, as far as the last calls tell. */
  get failure(): unknown {
    return this.#failing.get("claim") ?? this.#failing.get("settle");
  }

  claim(limit: number): Promise<StoreAnswer<OutboxClaim | undefined>> {
    const { store, name: relay, leaseMs } = this.#settings;
    return this.#ask(
      "claim",
      () => store.claim({ relay, limit, leaseMs }),
      (late) => {
        // It was given up, and must not hold its rows until the lease ends.
        if (late !== undefined)
          void this.settle(
            late.token,
            late.rows.map(({ position }) => release(position)),
          );
      },
    );
  }

  renew(token: string): Promise<StoreAnswer<"renewed" | "lost">> {
    return this.#ask("renew", () => this.#settings.store.renew(token, this.#settings.leaseMs));
  }

  settle(token: string, settlements: readonly OutboxSettlement[]): Promise<StoreAnswer<readonly number[]>> {
    return this.#ask("settle", () => this.#settings.store.settle(token, settlements));
  }

  clean(limit: number): Promise<StoreAnswer<number>> {
    return this.#ask("clean", () => this.#settings.store.clean(limit));
  }

  health(): Promise<StoreAnswer<OutboxHealth>> {
    return this.#ask("health", () => this.#settings.store.health());
  }

  async #ask<T>(
    call: RelayStoreCall,
    action: () => Promise<T>,
    late: (value: T) => void = () => {},
  ): Promise<StoreAnswer<T>> {
    const answer = await this.#within(action, late);
    if ("error" in answer) {
      this.#failing.set(call, answer.error);
      this.#settings.tell({ type: "store-failed", call, error: answer.error });
    } else {
      this.#failing.delete(call);
    }
    this.#changed();
    return answer;
  }

  #within<T>(action: () => Promise<T>, late: (value: T) => void): Promise<StoreAnswer<T>> {
    const { internals, store, storeTimeoutMs } = this.#settings;
    return new Promise((resolve) => {
      let over = false;
      const end = (answer: StoreAnswer<T>): void => {
        over = true;
        internals.clock.cancel(timer);
        resolve(answer);
      };
      const timer = internals.clock.schedule(
        () =>
          end({
            error: new MessagingError(
              "timeout",
              `the outbox in ${store.name} did not answer within ${storeTimeoutMs} ms; the relay asks again. See that the database is up, and raise storeTimeoutMs if it is slow`,
            ),
          }),
        storeTimeoutMs,
      );
      called(action).then(
        (value) => (over ? late(value) : end({ value })),
        (error: unknown) => end({ error }),
      );
    });
  }
}

export function release(position: number): OutboxSettlement {
  return { position, outcome: "released" };
}

/** What a call throws, it rejects with. */
async function called<T>(call: () => Promise<T>): Promise<T> {
  return call();
}
