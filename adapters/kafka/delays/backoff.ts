import type { BackoffTimes } from "../../../core/retry-policy.ts";

/** Between tries at what a broker held up: seconds at most, so that it goes on soon when the broker is back. */
export const RETRY: BackoffTimes = Object.freeze({ firstMs: 200, maxMs: 3_000 });
/** Between tries where trying again soon would hardly help. */
export const PATIENT_RETRY: BackoffTimes = Object.freeze({ firstMs: 200, maxMs: 30_000 });
