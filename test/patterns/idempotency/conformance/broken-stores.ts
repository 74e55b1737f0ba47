import { setImmediate as turn } from "node:timers/promises";
import { systemClock } from "../../../../core/clock.ts";
import {
  type ClaimResult,
  type IdempotencyStore,
  memoryIdempotencyStore,
} from "../../../../patterns/idempotency/index.ts";

/** Breaks one promise of a store. */
export type Breakage = (inner: IdempotencyStore) => IdempotencyStore;

const LONG_MS = 3_600_000;

// Claims.

/** Looks, and a moment later takes what it saw free. */
export const looksThenClaims: Breakage = (inner) => {
  const held = new Set<string>();
  return changed(inner, {
    async claim(key, leaseMs) {
      const free = !held.has(key);
      await turn();
      held.add(key);
      const result = await inner.claim(key, leaseMs);
      return result.status === "busy" && free ? { status: "claimed", token: "seen free" } : result;
    },
  });
};

export const claimsWhatIsHeld: Breakage = (inner) =>
  changed(inner, {
    claim: async (key, leaseMs) => {
      const result = await inner.claim(key, leaseMs);
      return result.status === "busy" ? { status: "claimed", token: "another" } : result;
    },
  });

/** Every process for itself. */
export const keepsToItself: Breakage = () => memoryIdempotencyStore();

/** As if the handler could not fail: a crash then loses the message. */
export const marksDoneAtClaim: Breakage = (inner) =>
  changed(inner, {
    async claim(key, leaseMs) {
      const result = await inner.claim(key, leaseMs);
      if (result.status === "claimed") await inner.complete(key, result.token, LONG_MS);
      return result;
    },
  });

export const saysBusyForNoTime: Breakage = (inner) => saysBusyFor(inner, 0);

export const saysBusyForEver: Breakage = (inner) => saysBusyFor(inner, Number.POSITIVE_INFINITY);

// Leases.

export const leasesNeverEnd: Breakage = (inner) => changed(inner, { claim: (key) => inner.claim(key, LONG_MS) });

export const leasesEndEarly: Breakage = (inner) =>
  changed(inner, { claim: (key, leaseMs) => inner.claim(key, leaseMs / 2) });

export const renewsNothing: Breakage = (inner) => changed(inner, { renew: async () => "renewed" });

export const losesAtRenewal: Breakage = (inner) => changed(inner, { renew: async () => "lost" });

/** The time of day of the process that asks. */
export const usesTheWorkersClock: Breakage = () =>
  memoryIdempotencyStore({ clock: { ...systemClock(), monotonic: () => Date.now() } });

// Fencing.

export const renewsForAnybody: Breakage = (inner) =>
  unfenced(inner, (tokens) => ({ renew: (key, _, leaseMs) => inner.renew(key, tokens.get(key) ?? "", leaseMs) }));

export const completesForAnybody: Breakage = (inner) =>
  unfenced(inner, (tokens) => ({ complete: (key, _, ms) => inner.complete(key, tokens.get(key) ?? "", ms) }));

export const releasesForAnybody: Breakage = (inner) =>
  unfenced(inner, (tokens) => ({ release: (key) => inner.release(key, tokens.get(key) ?? "") }));

/** One token for all. */
export const givesOneToken: Breakage = (inner) => {
  const tokens = new Map<string, string>();
  const real = (key: string): string => tokens.get(key) ?? "";
  return {
    name: inner.name,
    async claim(key, leaseMs) {
      const result = await inner.claim(key, leaseMs);
      if (result.status !== "claimed") return result;
      tokens.set(key, result.token);
      return { status: "claimed", token: "token" };
    },
    renew: (key, _, leaseMs) => inner.renew(key, real(key), leaseMs),
    complete: (key, _, retentionMs) => inner.complete(key, real(key), retentionMs),
    release: (key) => inner.release(key, real(key)),
    clean: (limit) => inner.clean(limit),
  };
};

// Ends of claims.

export const forgetsCompletions: Breakage = (inner) =>
  changed(inner, {
    complete: async (key, token) => ((await inner.release(key, token)) === "released" ? "completed" : "lost"),
  });

export const losesSecondCompletions: Breakage = (inner) => {
  const completed = new Set<string>();
  return changed(inner, {
    async complete(key, token, retentionMs) {
      if (completed.has(token)) return "lost";
      completed.add(token);
      return inner.complete(key, token, retentionMs);
    },
  });
};

export const releasesWhatIsDone: Breakage = (inner) => {
  const completed = new Map<string, string>();
  const undone = new Set<string>();
  return changed(inner, {
    claim: (key, leaseMs) => inner.claim(undone.has(key) ? `${key} again` : key, leaseMs),
    complete(key, token, retentionMs) {
      completed.set(key, token);
      return inner.complete(key, token, retentionMs);
    },
    async release(key, token) {
      if (completed.get(key) !== token) return inner.release(key, token);
      undone.add(key);
      return "lost";
    },
  });
};

export const neverReleases: Breakage = (inner) => changed(inner, { release: async () => "released" });

// Keeping.

export const forgetsEarly: Breakage = (inner) =>
  changed(inner, { complete: (key, token, retentionMs) => inner.complete(key, token, retentionMs / 2) });

/** Whoever completed a key once may do so for ever. */
export const completesWhatItForgot: Breakage = (inner) => {
  const completed = new Set<string>();
  return changed(inner, {
    async complete(key, token, retentionMs) {
      if (completed.has(token)) return "completed";
      completed.add(token);
      return inner.complete(key, token, retentionMs);
    },
  });
};

export const neverForgets: Breakage = (inner) =>
  changed(inner, { complete: (key, token) => inner.complete(key, token, LONG_MS) });

export const cleansNothing: Breakage = (inner) => changed(inner, { clean: async () => 0 });

export const cleansWithoutLimit: Breakage = (inner) => changed(inner, { clean: () => inner.clean(LONG_MS) });

export const cleansClaims: Breakage = (inner) =>
  unfenced(inner, (tokens) => ({
    async clean(limit) {
      for (const [key, token] of tokens) await inner.release(key, token);
      return inner.clean(limit);
    },
  }));

// Keys.

export const foldsCase: Breakage = (inner) => keysChanged(inner, (key) => key.toLowerCase());

export const trimsKeys: Breakage = (inner) => keysChanged(inner, (key) => key.trimEnd());

export const cutsKeys: Breakage = (inner) => keysChanged(inner, (key) => key.slice(0, 255));

function changed(inner: IdempotencyStore, changes: Partial<IdempotencyStore>): IdempotencyStore {
  return keysChanged(inner, (key) => key, changes);
}

function keysChanged(
  inner: IdempotencyStore,
  change: (key: string) => string,
  changes: Partial<IdempotencyStore> = {},
): IdempotencyStore {
  return {
    name: inner.name,
    claim: (key, leaseMs) => inner.claim(change(key), leaseMs),
    renew: (key, token, leaseMs) => inner.renew(change(key), token, leaseMs),
    complete: (key, token, retentionMs) => inner.complete(change(key), token, retentionMs),
    release: (key, token) => inner.release(change(key), token),
    clean: (limit) => inner.clean(limit),
    ...changes,
  };
}

/** Changes made by one who knows the token that holds each key. */
function unfenced(
  inner: IdempotencyStore,
  changes: (tokens: Map<string, string>) => Partial<IdempotencyStore>,
): IdempotencyStore {
  const tokens = new Map<string, string>();
  return changed(inner, {
    async claim(key, leaseMs) {
      const result = await inner.claim(key, leaseMs);
      if (result.status === "claimed") tokens.set(key, result.token);
      return result;
    },
    ...changes(tokens),
  });
}

function saysBusyFor(inner: IdempotencyStore, remainingMs: number): IdempotencyStore {
  return changed(inner, {
    async claim(key, leaseMs): Promise<ClaimResult> {
      const result = await inner.claim(key, leaseMs);
      return result.status === "busy" ? { status: "busy", remainingMs } : result;
    },
  });
}
