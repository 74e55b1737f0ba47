import { MessagingError } from "./errors.ts";

/** The error of a send whose signal was aborted while only this process had the message. */
export function aborted(what: string, signal: AbortSignal): MessagingError {
  const text = `${what}: its signal was aborted before the message was handed to the broker; it was not sent`;
  return new MessagingError("aborted", text, { cause: signal.reason });
}

/**
 * Rejects with `aborted` if the signal is aborted before `start` calls `handOn`; otherwise ends as `start` does.
 * `start` must give the signal to whoever it hands the message on to.
 */
export function abortable<Result>(
  what: string,
  signal: AbortSignal | undefined,
  start: (handOn: () => void) => Promise<Result>,
): Promise<Result> {
  if (signal === undefined) return start(() => undefined);
  if (signal.aborted) return Promise.reject(aborted(what, signal));
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(aborted(what, signal));
    const handOn = (): void => signal.removeEventListener("abort", onAbort);
    signal.addEventListener("abort", onAbort, { once: true });
    start(handOn).then(resolve, reject).finally(handOn);
  });
}
