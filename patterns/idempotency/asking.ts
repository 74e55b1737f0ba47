import { type Clock, MessagingError } from "../../core/index.ts";

/** The answer of a store, or why there is none. */
export type Answer<T> = { readonly value: T } | { readonly error: unknown };

/**
 * Asks a store, for so long. Never rejects. An answer that comes too late goes to `late`.
 */
export function ask<T>(
  clock: Clock,
  timeoutMs: number,
  call: () => Promise<T>,
  late: (value: T) => void = () => {},
): Promise<Answer<T>> {
  return new Promise((resolve) => {
    let waiting = true;
    const timer = clock.schedule(() => {
      waiting = false;
      resolve({ error: new MessagingError("timeout", `the idempotency store did not answer within ${timeoutMs} ms`) });
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

/** Waits so long, or until the signal is aborted. */
export function pause(clock: Clock, ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const over = (): void => {
      signal.removeEventListener("abort", over);
      clock.cancel(timer);
      resolve();
    };
    const timer = clock.schedule(over, ms);
    signal.addEventListener("abort", over);
  });
}
