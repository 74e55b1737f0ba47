import type { Clock } from "../../../core/clock.ts";
import { MessagingError } from "../../../core/errors.ts";

/** Settles as `work` does, or rejects with `timeout` after `ms` milliseconds; what `work` does later is of no interest. */
export function within<Result>(clock: Clock, ms: number, what: string, work: Promise<Result>): Promise<Result> {
  return new Promise((resolve, reject) => {
    const timer = clock.schedule(() => {
      reject(new MessagingError("timeout", `Kafka gave no answer within ${ms} ms to: ${what}; trying again`));
    }, ms);
    work.then(resolve, reject).finally(() => clock.cancel(timer));
  });
}
