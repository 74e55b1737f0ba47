/**
 * Where it is kept which keys are being worked on and which are done. Implementable on any database that can change one
 * record at a time atomically.
 *
 * A record is a key with the token of the one who claimed it, whether it is done, and when it ends. A record that has
 * ended is as if there were none; so is one that was cleaned away.
 *
 * For all methods:
 * - Keys are 1 to {@link LONGEST_KEY} characters of printable ASCII, space included, and are told apart exactly: case,
 *   trailing spaces and quotes count.
 * - Time is the store's own, the same for all processes: never the clock of the process that calls.
 * - Calls may be made at any time, from many processes, and are atomic each.
 * - A call rejects with a `MessagingError`, in bounded time, if the store cannot be asked (`unreachable`,
 *   `unauthorized`, …), and may be made again later: the store mends its connection by itself. What a rejected call did
 *   is unknown. With `refused` it says that it refuses this very key, and will refuse it again.
 * - No error holds a credential.
 */
export interface IdempotencyStore {
  /** What the store is, in lower case, as messages to people say it: `postgres`. */
  readonly name: string;

  /**
   * Claims a key for `leaseMs` milliseconds, with a token that no other claim ever has, unless somebody holds it or it
   * is done. Of any number of claims at once, one wins.
   */
  claim(key: string, leaseMs: number): Promise<ClaimResult>;

  /**
   * Lets a claim end `leaseMs` from now. `lost` if the token does not hold the key any more: the claim ended and was
   * taken by another, or cleaned away, or was completed or released. A claim that has ended and was not taken may be
   * renewed, or be lost.
   */
  renew(key: string, token: string, leaseMs: number): Promise<"renewed" | "lost">;

  /**
   * Marks the key done, for `retentionMs` milliseconds. `lost`, and nothing is changed, if the token does not hold the
   * key any more; as in {@link renew}. A second call with the same token answers `completed`, so that a call whose answer
   * was lost can be made again.
   */
  complete(key: string, token: string, retentionMs: number): Promise<"completed" | "lost">;

  /**
   * Gives up the claim, so that the next one gets it at once. `lost`, and nothing is changed, if the token does not hold
   * the key any more. What is done is never released.
   */
  release(key: string, token: string): Promise<"released" | "lost">;

  /**
   * Removes at most `limit` records that have ended, and no other. Resolves with how many it removed; always 0 where the
   * database removes them by itself.
   */
  clean(limit: number): Promise<number>;
}

/**
 * What became of a claim:
 * - `claimed`: the key is the caller's until the lease ends; the token proves it.
 * - `busy`: somebody holds it, for `remainingMs` milliseconds more, at least 0, unless they renew, release or complete.
 * - `done`: it was completed, and its retention is not over.
 */
export type ClaimResult =
  | { readonly status: "claimed"; readonly token: string }
  | { readonly status: "busy"; readonly remainingMs: number }
  | { readonly status: "done" };

/** The most characters of a key. */
export const LONGEST_KEY = 512;
