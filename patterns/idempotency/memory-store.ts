import { randomUUID } from "node:crypto";
import { checkInteger, checkOptions, clockOf } from "../../core/checks.ts";
import type { Clock } from "../../core/clock.ts";
import type { ClaimResult, IdempotencyStore } from "./store.ts";

/** The options of {@link memoryIdempotencyStore}. */
export interface MemoryIdempotencyStoreOptions {
  /**
   * The most keys that are kept as done. Above that the oldest is forgotten before its retention ends, and a duplicate of it
   * runs again. Default 100,000.
   */
  readonly maxKeys?: number;
  /** The clock for leases and retentions. Default: the machine's. */
  readonly clock?: Clock;
}

interface Entry {
  readonly token: string;
  readonly endsAt: number;
}

const DEFAULT_MAX_KEYS = 100_000;

/**
 * A store in the memory of this process, for tests and for consumers in a single process. It forgets all keys when the
 * process ends, and later duplicates run again. Throws `invalid` for wrong options.
 */
export function memoryIdempotencyStore(options: MemoryIdempotencyStoreOptions = {}): IdempotencyStore {
  checkOptions("memoryIdempotencyStore", options, ["maxKeys", "clock"]);
  const { maxKeys = DEFAULT_MAX_KEYS } = options;
  const clock = clockOf("memoryIdempotencyStore { clock }", options.clock);
  checkInteger("memoryIdempotencyStore { maxKeys }", maxKeys, 1);
  return new MemoryIdempotencyStore(maxKeys, clock);
}

class MemoryIdempotencyStore implements IdempotencyStore {
  readonly name = "memory";
  readonly #maxKeys: number;
  readonly #clock: Clock;
  readonly #claims = new Map<string, Entry>();
  /** In the order of completion. */
  readonly #done = new Map<string, Entry>();
  /** Points to the first key that is done. A new iterator would scan the places of all forgotten keys. */
  #first: Iterator<string> | undefined = undefined;

  constructor(maxKeys: number, clock: Clock) {
    this.#maxKeys = maxKeys;
    this.#clock = clock;
  }

  async claim(key: string, leaseMs: number): Promise<ClaimResult> {
    const now = this.#clock.monotonic();
    const done = this.#done.get(key);
    if (done !== undefined && done.endsAt > now) return { status: "done" };
    const held = this.#claims.get(key);
    if (held !== undefined && held.endsAt > now) return { status: "busy", remainingMs: held.endsAt - now };
    const token = randomUUID();
    this.#done.delete(key);
    this.#claims.set(key, { token, endsAt: now + leaseMs });
    return { status: "claimed", token };
  }

  async renew(key: string, token: string, leaseMs: number): Promise<"renewed" | "lost"> {
    if (!this.#holds(key, token)) return "lost";
    this.#claims.set(key, { token, endsAt: this.#clock.monotonic() + leaseMs });
    return "renewed";
  }

  async complete(key: string, token: string, retentionMs: number): Promise<"completed" | "lost"> {
    if (!this.#holds(key, token) && this.#done.get(key)?.token !== token) return "lost";
    this.#claims.delete(key);
    this.#done.delete(key);
    this.#done.set(key, { token, endsAt: this.#clock.monotonic() + retentionMs });
    if (this.#done.size > this.#maxKeys) this.#forgetFirst();
    return "completed";
  }

  async release(key: string, token: string): Promise<"released" | "lost"> {
    if (!this.#holds(key, token)) return "lost";
    this.#claims.delete(key);
    return "released";
  }

  async clean(limit: number): Promise<number> {
    const now = this.#clock.monotonic();
    // An old iterator keeps deleted entries of the map alive.
    this.#first = undefined;
    let left = limit;
    for (const entries of [this.#done, this.#claims]) {
      for (const [key, { endsAt }] of entries) {
        if (left === 0) return limit;
        if (endsAt > now) continue;
        entries.delete(key);
        left--;
      }
    }
    return limit - left;
  }

  #holds(key: string, token: string): boolean {
    return this.#claims.get(key)?.token === token;
  }

  #forgetFirst(): void {
    this.#first ??= this.#done.keys();
    const { value, done } = this.#first.next();
    if (done === true) this.#first = undefined;
    else this.#done.delete(value);
  }
}
