import { MessagingError } from "../../core/errors.ts";

/**
 * Settles as `work` does, or rejects with `timeout` after `ms` milliseconds. amqplib's promises never settle on a
 * connection that is half-open, so that none of them may be awaited bare. `work`'s later rejection is swallowed.
 */
export function within<Result>(ms: number, what: string, work: Promise<Result>): Promise<Result> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      reject(new MessagingError("timeout", `RabbitMQ gave no answer within ${ms} ms to: ${what}`));
    }, ms);
    work.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}
