/**
 * What user code throws, rejects with or returns may be anything: an object whose `message` is an object, without a
 * prototype, with a `toString` that throws, a revoked proxy. Nothing here throws.
 */

const NO_TEXT = "what was thrown has no text";

const UNPRINTABLE = /[\p{C}\p{Zl}\p{Zp}]/gu;

/** A foreign text on one line, of so many characters at most: what a terminal or a log might obey is a question mark. */
export function oneLine(text: string, most: number): string {
  const line = text
    .slice(0, most + 1)
    .toWellFormed()
    .replaceAll(UNPRINTABLE, "?");
  return line.length > most ? `${line.slice(0, most - 1)}…` : line;
}

/** The message of an error, or the text of anything else that was thrown. */
export function thrownText(thrown: unknown): string {
  try {
    const text: unknown = thrown instanceof Error ? thrown.message : thrown;
    return typeof text === "string" ? text : String(text);
  } catch {
    return NO_TEXT;
  }
}

/** The name of an error's class, or the type of anything else that was thrown. */
export function thrownClass(thrown: unknown): string {
  try {
    if (!(thrown instanceof Error)) return typeof thrown;
    const name: unknown = thrown.name === "Error" ? thrown.constructor.name : thrown.name;
    return typeof name === "string" && name !== "" ? name : "Error";
  } catch {
    return "Error";
  }
}

/** Whether a value is to be awaited. Reading `then` may run user code; one that throws is not. */
export function isThenable(value: unknown): value is PromiseLike<unknown> {
  try {
    return hasThen(value);
  } catch {
    return false;
  }
}

/** As {@link isThenable}, and throws what reading `then` throws: an `await` of such a value would reject with it. */
export function hasThen(value: unknown): value is PromiseLike<unknown> {
  const canHaveThen = (typeof value === "object" && value !== null) || typeof value === "function";
  return canHaveThen && typeof (value as { readonly then?: unknown }).then === "function";
}

/** Handles the rejection of a value that nobody awaits, if it is a promise: an unhandled one ends the process. */
export function ignoreRejection(value: unknown): void {
  if (isThenable(value)) Promise.resolve(value).catch(() => {});
}

/** Returns a result of user code that is used at once. If it is a promise, whatever checks it refuses it, and a rejection ends nothing. */
export function unawaited<Value>(value: Value): Value {
  ignoreRejection(value);
  return value;
}

/**
 * Calls somebody who only watches. What it throws is ignored, and so is what its promise rejects with: an observer that
 * fails must not disturb what it observes.
 */
export function observe<Seen>(observer: ((seen: Seen) => unknown) | undefined, seen: Seen): void {
  try {
    ignoreRejection(observer?.(seen));
  } catch {
    // As above.
  }
}
