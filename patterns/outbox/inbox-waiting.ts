import { type Clock, MessagingError } from "../../core/index.ts";

/**
 * Settles as the promise does, or rejects with `timeout` after `ms` milliseconds. What comes too late goes to `late`.
 */
export function within<T>(
  clock: Clock,
  ms: number,
  what: string,
  promise: Promise<T>,
  late: (value: T) => void = () => {},
): Promise<T> {
  return new Promise((resolve, reject) => {
    let waiting = true;
    const timer = clock.schedule(() => {
      waiting = false;
      reject(new MessagingError("timeout", `${what} took longer than ${ms} ms`));
    }, ms);
    const settle = (action: () => void): void => {
      clock.cancel(timer);
      action();
    };
    promise.then(
      (value) => (waiting ? settle(() => resolve(value)) : late(value)),
      (error: unknown) => settle(() => reject(error)),
    );
  });
}

/** Settles as the promise does, or rejects with the signal's reason as soon as it is aborted. */
export function unlessAborted<T>(signal: AbortSignal, promise: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason);
    if (signal.aborted) abort();
    else signal.addEventListener("abort", abort);
    const over = (): void => signal.removeEventListener("abort", abort);
    promise.then(
      (value) => {
        over();
        resolve(value);
      },
      (error: unknown) => {
        over();
        reject(error);
      },
    );
  });
}
