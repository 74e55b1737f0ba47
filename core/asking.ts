import type { Clock } from "./clock.ts";
import { MessagingError } from "./errors.ts";

/** The answer of a store, or why there is none. */
export type Answer<T> = { readonly value: T } | { readonly error: unknown };

/**
 * Asks a store, for so long. Never rejects. An answer that comes too late goes to `late`. `store` is what messages call
 * it, as in `idempotency store`.
 */
export function ask<T>(
  store: string,
  clock: Clock,
  timeoutMs: number,
  call: () => Promise<T>,
  late: (value: T) => void = () => {},
): Promise<Answer<T>> {
  return new Promise((resolve) => {
    let waiting = true;
    const timer = clock.schedule(() => {
      waiting = false;
      resolve({ error: new MessagingError("timeout", `the ${store} did not answer within ${timeoutMs} ms`) });
    }, timeoutMs);
    const end = (answer: Answer<T>): void => {
      if (!waiting) return;
      clock.cancel(timer);
      resolve(answer);
    };
    called(call).then(
      (value) => (waiting ? end({ value }) : late(value)),
      (error: unknown) => end({ error }),
    );
  });
}

/** What a call throws, it rejects with. */
async function called<T>(call: () => Promise<T>): Promise<T> {
  return call();
}
