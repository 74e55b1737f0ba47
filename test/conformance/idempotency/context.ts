import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import type { IdempotencyStore } from "../../../patterns/idempotency/index.ts";
import { seeded } from "../seed.ts";
import { until } from "../until.ts";
import type { StoreHarness } from "./harness.ts";

const PATIENCE_MS = 30_000;

/** Longer than any case takes: what is claimed or kept for so long has not ended. */
export const LONG_MS = 600_000;

/** What a case works with. Everything it opens is closed at its end, however it ends. */
export class StoreContext {
  readonly harness: StoreHarness;
  /** Numbers from 0 up to, not including, 1, the same for the same seed. */
  readonly random: () => number;
  readonly patienceMs: number;
  /** What every key of the case begins with: letters, digits and `-`. */
  readonly prefix: string;
  /** Why the case could not be tried, and whether the harness names a reason. */
  notRun: { readonly note: string; readonly known: boolean } | undefined = undefined;
  readonly #cleanups: (() => Promise<unknown>)[] = [];
  #keys = 0;

  constructor(harness: StoreHarness, number: string, seed: number) {
    this.harness = harness;
    this.random = seeded(seed);
    this.patienceMs = harness.patienceMs ?? PATIENCE_MS;
    this.prefix = `${number}-${randomBytes(6).toString("hex")}-`;
  }

  /** A key that nobody else uses. */
  key(): string {
    return `${this.prefix}${this.#keys++}`;
  }

  /** A store with connections of its own. */
  async store(): Promise<IdempotencyStore> {
    const { store, close } = await this.harness.open();
    this.cleanUp(close);
    return store;
  }

  /** Waits for a condition. */
  until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
    return until(condition, { what, timeoutMs: this.patienceMs });
  }

  /** Settles as the promise does, and rejects if that takes longer than the harness has patience. */
  async inTime<T>(what: string, promise: Promise<T>): Promise<T> {
    const { promise: late, reject } = Promise.withResolvers<never>();
    const timer = setTimeout(
      () => reject(new Error(`${what} did not answer within ${this.patienceMs} ms`)),
      this.patienceMs,
    );
    try {
      return await Promise.race([promise, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Registers what must happen at the end. The last registered is the first done. */
  cleanUp(action: () => Promise<unknown>): void {
    this.#cleanups.push(action);
  }

  /** Does what was registered; resolves with what went wrong in doing so. */
  async close(): Promise<readonly unknown[]> {
    const failures: unknown[] = [];
    for (const action of this.#cleanups.splice(0).reverse()) {
      try {
        await action();
      } catch (failure) {
        failures.push(failure);
      }
    }
    return failures;
  }
}

/** Claims a key that has to be free; resolves with the token. */
export async function claimed(store: IdempotencyStore, key: string, leaseMs = LONG_MS): Promise<string> {
  const result = await store.claim(key, leaseMs);
  if (result.status === "claimed") return result.token;
  return assert.fail(`a free key was ${result.status}`);
}

/** The status that a claim meets. */
export async function statusOf(store: IdempotencyStore, key: string): Promise<string> {
  return (await store.claim(key, LONG_MS)).status;
}
