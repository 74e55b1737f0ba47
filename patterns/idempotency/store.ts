/**
 * Stores which keys are claimed and which are done. Any database that changes one record atomically can implement it.
 *
 * A record has a key, the token of its claim, whether it is done, and when it ends. A record that has ended counts as
 * missing, and so does one that was cleaned away.
 *
 * For all methods:
 * - Keys are 1 to {@link LONGEST_KEY} characters of printable ASCII, space included, and are compared exactly: case,
 *   trailing spaces and quotes count.
 * - Time is the store's, the same for all processes, and never the clock of the calling process.
 * - Calls are atomic, and may be concurrent, from many processes.
 * - A call rejects with a `MessagingError`, in bounded time, if the store cannot be reached (`unreachable`,
 *   `unauthorized`, …), and can be repeated later: the store reconnects. The effect of a rejected call is unknown. `refused`
 *   says that the store refuses this key, now and later.
 * - No error has a credential.
 */
export interface IdempotencyStore {
  /** The store's name in messages, in lower case: `postgres`. */
  readonly name: string;

  /**
   * Claims a key for `leaseMs` milliseconds, with a unique token, unless another claim holds it or it is done. Of concurrent
   * claims, one wins.
   */
  claim(key: string, leaseMs: number): Promise<ClaimResult>;

  /**
   * Makes a claim end `leaseMs` from now. `lost` if the token no longer holds the key: the claim ended and was taken over or
   * cleaned away, or was completed or released. A claim that has ended and was not taken over may be renewed or lost.
   */
  renew(key: string, token: string, leaseMs: number): Promise<"renewed" | "lost">;

  /**
   * Marks the key done, for `retentionMs` milliseconds. `lost`, without a change, if the token no longer holds the key, as in
   * {@link renew}. A second call with the same token resolves with `completed`, so that a call without an answer can be
   * repeated.
   */
  complete(key: string, token: string, retentionMs: number): Promise<"completed" | "lost">;

  /**
   * Releases the claim, so that the next one gets the key at once. `lost`, without a change, if the token no longer holds the
   * key. A key that is done is never released.
   */
  release(key: string, token: string): Promise<"released" | "lost">;

  /**
   * Removes at most `limit` records that have ended. Resolves with their number; always 0 if the database expires records.
   */
  clean(limit: number): Promise<number>;
}

/**
 * The result of a claim:
 * - `claimed`: the caller holds the key until the lease ends; the token proves it.
 * - `busy`: another claim holds it for `remainingMs` milliseconds, at least 0, unless it is renewed, released or completed.
 * - `done`: it was completed, and its retention has not ended.
 */
export type ClaimResult =
  | { readonly status: "claimed"; readonly token: string }
  | { readonly status: "busy"; readonly remainingMs: number }
  | { readonly status: "done" };

/** The most characters of a key. */
export const LONGEST_KEY = 512;
