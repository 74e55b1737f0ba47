import {
  type Delivery,
  type HandlerResult,
  isMessagingError,
  type Middleware,
  type Outcome,
  postpone,
} from "../../core/index.ts";
import { outcomeKind } from "../../core/outcome.ts";
import { backoffMs } from "../../core/retry-policy.ts";
import { spareMs } from "../../core/stores.ts";
import { Claim } from "./claim.ts";
import { ClaimedDelivery } from "./claimed-delivery.ts";
import { Cleaning } from "./cleaning.ts";
import { GuardedStore } from "./guarded-store.ts";
import { type IdempotentOptions, type Settings, settingsOf } from "./options.ts";
import { pause } from "./pause.ts";
import type { IdempotencyStore } from "./store.ts";
import { storeKey } from "./store-key.ts";

/** How often a key that is held, or a store that does not answer, is asked again. */
const LOOKS = { firstMs: 20, maxMs: 1_000 };

/**
 * Middleware that runs the handler once per key, however often its message comes: claim the key → handler → mark it done.
 * Keys are apart per queue, and per subscription of a topic.
 *
 * - Done before: acknowledged without the handler.
 * - Held by another: waits its turn, at most `waitMs`, and is then postponed, which uses up no attempt.
 * - The handler throws, or returns `retry()`, `postpone()` or `deadLetter()`: the claim is released, so that the next
 *   attempt, or a replay of the dead letter, runs.
 * - The store does not answer: the message waits and is postponed in the same way. It is never handled without a claim.
 *   Neither waiting takes longer than the consumer's `timeoutMs` allows, so that no attempt is used up by it.
 *   Where the store refuses this very key (`refused`), that is a failed attempt.
 * - The claim is renewed while the handler runs. If it is lost, `delivery.signal` is aborted, and the message comes again;
 *   so it does if the signal was aborted for any other reason before a handler that had asked for it returned. That uses
 *   up an attempt, unless the store alone lost the claim: this process asked for each renewal in time.
 *
 * At least once, still: a process that dies between the handler's effect and its completion leaves a claim, and after the
 * lease the next copy runs. A handler that succeeded while the store would not record it, before the lease or the
 * handler's time was over, is acknowledged (`unrecorded`).
 *
 * Throws `invalid` for wrong options.
 */
export function idempotent<Body = unknown>(
  store: IdempotencyStore,
  options: IdempotentOptions<Body> = {},
): Middleware<Body> {
  const settings = settingsOf(options);
  const cleaning = new Cleaning(settings);
  return (next) => async (body, delivery) => {
    const key = storeKey(delivery, settings.key === undefined ? delivery.id : settings.key(body, delivery));
    // Given twice, for the broker and for the consumer: the inner one would wait for the outer one.
    if (delivery instanceof ClaimedDelivery && delivery.isClaimed(store, key)) return next(body, delivery);
    const guarded = new GuardedStore(store, key, settings, delivery);
    const granted = await acquire(guarded, settings, delivery);
    if (granted === "done") {
      guarded.tell({ type: "duplicate" });
      return undefined;
    }
    if (granted === "busy" || granted === "store") return postponed(guarded, settings, granted);
    const claimed = new ClaimedDelivery(delivery, store, key);
    const claim = new Claim(guarded, granted.token, granted.askedAt, settings, claimed);
    const end = await handled(() => next(body, claimed), claim, claimed);
    if (end === "lost") return postponed(guarded, settings, "lost");
    if (end !== "done") return end;
    if (!(await claim.complete())) guarded.tell({ type: "unrecorded" });
    cleaning.completed(guarded);
    return undefined;
  };
}

/** A claim, or why there is none within the time that a message may wait in its handler's place. */
type Granted = { readonly token: string; readonly askedAt: number } | "done" | "busy" | "store";

async function acquire(store: GuardedStore, settings: Settings, delivery: Delivery): Promise<Granted> {
  const { clock, waitMs } = settings;
  const begin = clock.monotonic();
  const spare = spareMs(delivery);
  for (let looks = 1; ; looks++) {
    const askedAt = clock.monotonic();
    const answer = await store.claim(begin + spare - askedAt);
    // It would refuse the key for ever.
    if ("error" in answer && isMessagingError(answer.error, "refused")) throw answer.error;
    const result = "value" in answer ? answer.value : undefined;
    if (result?.status === "claimed") return { token: result.token, askedAt };
    if (result?.status === "done") return "done";
    const left = Math.min(waitMs, spare) - (clock.monotonic() - begin);
    if (left < 1) return result === undefined ? "store" : "busy";
    // A lease that ends sooner is looked at then; the next look may come before it, for the holder may be done.
    const remaining = result === undefined ? left : result.remainingMs + 1;
    await pause(clock, Math.min(left, remaining, backoffMs(looks, LOOKS)), delivery.signal);
    if (delivery.signal.aborted) throw delivery.signal.reason;
  }
}

/**
 * Runs the handler. Unless it is `done` the claim is released. `lost`: the claim was, through no fault of the handler.
 */
async function handled(
  run: () => HandlerResult | Promise<HandlerResult>,
  claim: Claim,
  delivery: ClaimedDelivery,
): Promise<Outcome | "done" | "lost"> {
  let result: HandlerResult;
  try {
    result = await run();
  } catch (error) {
    await claim.release();
    if (delivery.told !== undefined && claim.isLostBlamelessly) return "lost";
    throw error;
  }
  if (outcomeKind(result) !== undefined) {
    await claim.release();
    return result as Outcome;
  }
  const { told } = delivery;
  if (told === undefined) return "done";
  // It was told to end and ended: nobody can say whether its work was done. Marked done, it might be lost.
  await claim.release();
  if (claim.isLostBlamelessly) return "lost";
  throw told;
}

function postponed(store: GuardedStore, settings: Settings, because: "busy" | "store" | "lost"): Outcome {
  // Those that were postponed together do not come back together.
  const afterMs = Math.ceil(settings.postponeMs * (0.5 + Math.random() / 2));
  store.tell({ type: "postponed", because, afterMs });
  return postpone({ afterMs });
}
